//! `info`: what the handshake found out, for people and, with `--json`, for scripts.

use std::fmt::Write as _;
use std::io::{self, Write};

use nbd_client::frame::Headers;
use nbd_client::text::ServerText;
use nbd_client::tls::{PeerCheck, TlsInfo};
use nbd_client::{Client, Export, Options, Uri};
use serde_json::{Value, json};

use crate::connection::{self, ConnectionArgs};
use crate::failure::Failure;
use crate::output::Output;
use crate::values::{human, parse_uri};

/// Shows what a server says of an export: size, block sizes, flags, contexts
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -r -U - memory 1G --run 'nbd-extents info \"$uri\"'"))]
pub(crate) struct InfoArgs {
    /// The export: nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH
    #[arg(value_parser = parse_uri, long_help = uri_help!("The export"))]
    uri: Uri,
    /// Show all exports of the server, whichever the URI names
    #[arg(long)]
    list: bool,
    /// Print one JSON object; with --list one array of them
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Does what the command line asks.
pub(crate) fn run(args: &InfoArgs) -> Result<(), Failure> {
    let options = args.connection.options();
    let exports = if args.list { all(&args.uri, &options)? } else { vec![export(&args.uri, &options)?] };
    let mut out = Output::held();
    let values = exports.iter().map(value);
    match (args.json, args.list) {
        (true, true) => writeln!(out, "{}", ascii(&values.collect()))?,
        (true, false) => {
            for value in values {
                writeln!(out, "{}", ascii(&value))?;
            }
        }
        (false, _) => {
            for (nth, export) in exports.iter().enumerate() {
                write!(out, "{}", if nth == 0 { "" } else { "\n" })?;
                text(export, &mut out)?;
            }
        }
    }
    Ok(out.finish()?)
}

/// Every export that the server lists, each over a connection of its own.
fn all(uri: &Uri, options: &Options) -> Result<Vec<Export>, Failure> {
    let listed =
        Client::list_exports(uri, options).map_err(|error| connection::failure(uri, options, error))?;
    let mut exports = Vec::new();
    for listed in listed {
        let name = ServerText::new(listed.name.as_bytes());
        let uri = uri
            .with_export(listed.name.as_str())
            .map_err(|error| Failure::broken(format!("export \"{name}\": {error}")))?;
        let mut found =
            export(&uri, options).map_err(|failure| failure.about(&format!("export \"{name}\"")))?;
        found.description = found.description.or(listed.description.map(|text| text.to_string()));
        exports.push(found);
    }
    Ok(exports)
}

/// One export. No context is required: this shows what there is.
fn export(uri: &Uri, options: &Options) -> Result<Export, Failure> {
    let options = ["base:allocation", "qemu:allocation-depth"]
        .into_iter()
        .fold(options.clone().list_contexts(true), Options::want_context);
    let client = Client::connect(uri, &options).map_err(|error| connection::failure(uri, &options, error))?;
    let export = client.export().clone();
    client.disconnect().ok(); // all that was asked has been answered
    Ok(export)
}

fn text(export: &Export, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "export        {:?}", export.name)?;
    if let Some(description) = &export.description {
        writeln!(out, "description   {}", ServerText::new(description.as_bytes()))?;
    }
    writeln!(out, "size          {} ({})", export.size(), human(export.size()))?;
    match export.block_size {
        Some(sizes) => {
            let (minimum, preferred, maximum) = (sizes.minimum(), sizes.preferred(), sizes.maximum());
            writeln!(out, "block sizes   minimum {minimum}, preferred {preferred}, maximum {maximum}")?;
        }
        None => writeln!(out, "block sizes   not announced")?,
    }
    writeln!(out, "flags         {}", flags(export).join(" "))?;
    writeln!(out, "headers       {}", headers(export))?;
    match &export.tls {
        None => writeln!(out, "TLS           no")?,
        Some(tls) => {
            writeln!(out, "TLS           {}, {}", tls.protocol, tls.cipher)?;
            writeln!(out, "peer          {}", tls.subject)?;
            if let Some(fingerprint) = &tls.fingerprint {
                writeln!(out, "fingerprint   {fingerprint}")?;
            }
            writeln!(out, "verified      {}", verified(tls.check))?;
        }
    }
    for context in offered(export) {
        writeln!(out, "context       {}", ServerText::new(context.as_bytes()))?;
    }
    Ok(())
}

fn value(export: &Export) -> Value {
    let sizes = export.block_size.map(|sizes| {
        json!({"minimum": sizes.minimum(), "preferred": sizes.preferred(), "maximum": sizes.maximum()})
    });
    json!({
        "export": export.name,
        "description": export.description,
        "size": export.size(),
        "block_size": sizes,
        "flags": flags(export),
        "headers": headers(export),
        "tls": export.tls.is_some(),
        "tls_session": export.tls.as_ref().map(tls_value),
        "contexts": offered(export),
    })
}

fn tls_value(tls: &TlsInfo) -> Value {
    json!({
        "protocol": tls.protocol,
        "cipher": tls.cipher,
        "peer": tls.subject,
        "fingerprint": tls.fingerprint.map(|fingerprint| fingerprint.to_string()),
        "verified": verified(tls.check),
    })
}

/// How the server's certificate was verified.
fn verified(check: PeerCheck) -> &'static str {
    match check {
        PeerCheck::Authority => "authority",
        PeerCheck::Fingerprint => "fingerprint",
        PeerCheck::Nothing => "no",
        _ => "custom",
    }
}

/// The same JSON in ASCII alone: what a server calls its exports can do nothing to a terminal, and
/// is still exact.
fn ascii(json: &Value) -> String {
    let mut text = String::new();
    let mut units = [0; 2];
    for c in json.to_string().chars() {
        if c.is_ascii() && c != '\u{7f}' {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

fn headers(export: &Export) -> &'static str {
    match export.headers {
        Headers::Simple => "simple",
        Headers::Structured => "structured",
        Headers::Extended => "extended",
    }
}

/// The contexts that the server lists; where it lists nothing, those it granted.
fn offered(export: &Export) -> Vec<&str> {
    match &export.offered {
        Some(offered) => offered.iter().map(String::as_str).collect(),
        None => export.contexts.iter().map(|context| context.name.as_str()).collect(),
    }
}

fn flags(export: &Export) -> Vec<&'static str> {
    let flags = export.flags;
    [
        (flags.is_read_only(), "read-only"),
        (!flags.is_read_only(), "writable"),
        (flags.can_flush(), "flush"),
        (flags.can_fua(), "fua"),
        (flags.is_rotational(), "rotational"),
        (flags.can_trim(), "trim"),
        (flags.can_write_zeroes(), "write-zeroes"),
        (flags.can_df(), "df"),
        (flags.can_multi_conn(), "multi-conn"),
        (flags.can_cache(), "cache"),
        (flags.can_fast_zero(), "fast-zero"),
        (flags.block_status_payload(), "block-status-payload"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}
