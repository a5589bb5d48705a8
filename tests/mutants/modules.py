"""The modules in which a silent fault loses data, and where their copies are built."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "target/mutants"
TREE = WORK / "tree"
# module: its package, its files, and the test programs that are tried beside the unit tests
MODULES = {
    "wire": ("nbd-extents", "src/wire", ["budget", "replies", "replies_hostile", "kernel"]),
    "stream": ("nbd-extents", "src/stream",
               ["streams", "streams_hostile", "stream_adapters", "chained_lists", "decided_lists", "kernel"]),
    "kernel": ("nbd-extents", "src/kernel", ["kernel", "streams", "chained_lists", "decided_lists"]),
    "survey": ("nbd-extents", "src/survey",
               ["survey", "survey_entries", "survey_faults", "survey_in_flight", "survey_writable", "replies",
                "replies_hostile", "budget", "changing_export", "progress"]),
    "contexts": ("nbd-extents", "src/contexts", ["survey", "survey_entries", "survey_faults"]),
    "action": ("nbd-extents", "src/action", ["actions", "decided_lists", "plans"]),
    "plan": ("nbd-extents", "src/plan", ["plans"]),
    "chain": ("nbd-extents", "src/chain", ["chain"]),
    "sparse_stream": ("nbd-extents-backup", "backup/src/sparse_stream",
                      ["sparse_stream", "backups"]),
    "connection": ("nbd-client", "nbd-client/src/connection",
                   ["clock", "drive", "deadlines", "dropped", "drained", "data_faults", "refusals",
                    "pipeline", "pool", "tls", "transport"]),
    "session": ("nbd-client", "nbd-client/src/session",
                ["drive", "refusals", "data_faults", "pipeline", "server_behaviour_data",
                 "server_behaviour_streams"]),
}
# the folder of the package whose test programs have sockets, beside its unit tests
SOCKETS = "nbd-client"
CRATES = {"nbd-extents": "src", "nbd-extents-backup": "backup/src", "nbd-client": "nbd-client/src"}
