/*
 * nbd_extents.h: one map of a disk from the block status of an NBD server.
 *
 * An NBD server describes a disk in several contexts (base:allocation, dirty bitmaps, the depth of
 * an image), each cut at its own places and reaching its own distance in a reply. A survey says
 * what to ask, takes the (length, flags) pairs that libnbd's callbacks get, and hands out merged
 * extents that cover the disk exactly once. If it cannot, it fails: no dirty byte is lost without
 * an error.
 *
 * This prints the map of an export with libnbd (examples/print_map.c is the whole program):
 *
 *     struct reply { nbdx_survey *survey; uint64_t id; };
 *
 *     static int on_extents(void *user, const char *context, uint64_t offset,
 *                           uint32_t *entries, size_t nr_entries, int *error)
 *     {
 *         struct reply *r = user;
 *         return nbdx_survey_extents32(r->survey, r->id, context, offset, entries, nr_entries);
 *     }
 *
 *     const char *contexts[] = { "base:allocation", "qemu:dirty-bitmap:b0" };
 *     nbdx_survey *survey = nbdx_survey_new(nbd_get_size(nbd), contexts, 2);
 *     struct reply reply = { survey, 0 };
 *     nbdx_extent extents[512];
 *     uint64_t offset, length;
 *     ssize_t count, i;
 *
 *     while (nbdx_survey_next_request(survey, &reply.id, &offset, &length) == 1) {
 *         nbd_extent_callback callback = { .callback = on_extents, .user_data = &reply };
 *         if (nbd_block_status(nbd, length, offset, callback, 0) == -1)
 *             nbdx_survey_reply_failed(survey, reply.id); // asked again, not without end
 *         else if (nbdx_survey_reply_done(survey, reply.id) == -1)
 *             fprintf(stderr, "%s\n", nbdx_survey_error(survey));
 *         while ((count = nbdx_survey_read(survey, extents, 512)) > 0)
 *             for (i = 0; i < count; i++)
 *                 printf("%" PRIu64 " %" PRIu64 "%s%s\n", extents[i].start, extents[i].length,
 *                        extents[i].flags & NBDX_DIRTY ? " dirty" : "",
 *                        extents[i].flags & NBDX_ZERO ? " zero" : "");
 *     }
 *     if (nbdx_survey_complete(survey) == -1)
 *         errx(1, "%s", nbdx_survey_error(survey));
 *     nbdx_survey_free(survey);
 *
 * Never leave out nbdx_survey_complete: it is the proof that every byte was described.
 *
 * Errors. A function fails by returning -1, or NULL where it returns a pointer. The reason is a
 * line of UTF-8, never NULL, empty after a call that succeeded:
 *  - nbdx_TYPE_error(object) is the message of the last call on this object, until the next one;
 *  - nbdx_last_error() is the message of this thread's last call, until its next. Use it after a
 *    function that makes an object.
 * The functions that return messages, and those that free, leave both as they are. NULL for an
 * argument that is needed, an unknown name or id, a call in the wrong order, a count that cannot
 * be: each is such an error. After a fault inside the library (the message says so) an object only
 * fails until it is freed.
 *
 * Ownership. The caller owns every object that a function returns, and frees it with the
 * nbdx_TYPE_free of its type; NULL is fine there. Nothing that the caller passes is kept: strings,
 * buffers, options, maps and policies are copied or shared inside, and can be freed in any order.
 * Buffers come with the number of entries that they hold or have room for, and are read and written
 * during the call alone. Messages belong to the library.
 *
 * Threads. Any thread may use any object, but one at a time: nothing else may be called with an
 * object while a call with it runs, not even functions that take it as const. Different objects are
 * independent. Nothing calls back into the caller, waits, does I/O or forks.
 *
 * Units. Offsets and lengths are bytes. Ranges are half-open: start is in, start + length is not.
 *
 * Structs do not change while the soname stays the same. C99 to C++20, POSIX.
 */
#ifndef NBD_EXTENTS_H
#define NBD_EXTENTS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library in use, as "MAJOR.MINOR.PATCH". Static. */
const char *nbdx_version(void);

/* The message of this thread's last call, until its next; empty when that call succeeded. */
const char *nbdx_last_error(void);

/* ---- Surveys: from replies to extents -------------------------------------------------------- */

typedef struct nbdx_survey nbdx_survey;

/* A range of the disk and its status, the same for each byte of it. */
typedef struct {
    uint64_t start;    /* the first byte */
    uint64_t length;   /* in bytes, never 0 */
    uint32_t flags;    /* NBDX_DIRTY and the others below */
    uint32_t depth;    /* qemu:allocation-depth: the layer that holds the bytes, 0 for none */
    uint32_t bitmaps;  /* bit i: the i-th bitmap named marks the bytes as changed */
    uint32_t reserved; /* 0 */
} nbdx_extent;

/* Flags of an extent. Each means something only where its KNOWN flag is set: without the context
 * that tells, the answer is unknown, neither yes nor no. Only NBDX_ZERO means that the bytes read
 * as zeroes. A hole that is not zero has undefined content and must be read. */
#define NBDX_DIRTY 1 /* changed, by any of the bitmaps */
#define NBDX_ZERO 2  /* reads as zeroes */
#define NBDX_HOLE 4  /* has no space allocated */
#define NBDX_DIRTY_KNOWN 16
#define NBDX_ZERO_KNOWN 32
#define NBDX_HOLE_KNOWN 64
#define NBDX_DEPTH_KNOWN 128

/* A (length, flags) pair of a reply: the layout of nbd_extent of libnbd 1.18 and later. */
typedef struct {
    uint64_t length;
    uint64_t flags;
} nbdx_entry;

/* A survey of a whole read-only export of size bytes. contexts are nr_contexts full names that the
 * server has granted: "base:allocation", "qemu:dirty-bitmap:NAME" (at most 32) and
 * "qemu:allocation-depth". All are required in each reply. Requests ask about at most 2 GiB; no
 * block size is announced. For anything else see nbdx_survey_with_options. */
nbdx_survey *nbdx_survey_new(uint64_t size, const char *const *contexts, size_t nr_contexts);

/* Makes the next request. Returns 1 with a request, 0 when there is none now (enough are in flight,
 * or all has been asked), -1 on error. Send NBD_CMD_BLOCK_STATUS for length bytes from offset, and
 * pass the reply under the id. Up to 16 requests can be in flight; one at a time is fine. */
int nbdx_survey_next_request(nbdx_survey *survey, uint64_t *id, uint64_t *offset, uint64_t *length);

/* Takes one context's part of a reply: the arguments of the callback of nbd_block_status.
 * nr_entries counts uint32_t, two for each extent (length, flags); an odd count is an error. offset
 * is where the request starts. The entries may describe less or more than was asked: the rest is
 * asked again, and the excess is not used. Nothing of a reply can be read before
 * nbdx_survey_reply_done.
 *
 * When the entries break the protocol it returns -1, and the rest of the reply is refused as well.
 * End the request with nbdx_survey_reply_failed, as you do when nbd_block_status fails, which it
 * does when its callback returns -1. The range is asked again. */
int nbdx_survey_extents32(nbdx_survey *survey, uint64_t id, const char *context, uint64_t offset,
                          const uint32_t *entries, size_t nr_entries);

/* The same from the callback of nbd_block_status_64. entries are nr_entries structs with the layout
 * of nbdx_entry; libnbd's nbd_extent can be passed as it is. */
int nbdx_survey_extents64(nbdx_survey *survey, uint64_t id, const char *context, uint64_t offset,
                          const void *entries, size_t nr_entries);

/* Ends a request whose reply is whole: its extents can be read. Fails when a context is missing,
 * when the lists break the protocol, or when the survey makes no progress. Nothing of the reply is
 * used then, and its range is asked again. The id is not valid any more in either case. */
int nbdx_survey_reply_done(nbdx_survey *survey, uint64_t id);

/* Ends a request that the server answered with an error. Nothing of the reply is used, and its
 * range is asked again. Fails when that has happened too often: give the survey up. The id is not
 * valid any more in either case. */
int nbdx_survey_reply_failed(nbdx_survey *survey, uint64_t id);

/* Reads merged extents in ascending order, neighbours of equal status joined. Returns the number
 * written to out, 0 when there are none now, -1 on error. The last extent stays inside until the
 * next reply shows that it cannot grow any more. */
ssize_t nbdx_survey_read(nbdx_survey *survey, nbdx_extent *out, size_t capacity);

/* 0 when the whole range was covered exactly once and every extent of it was read, else -1. */
int nbdx_survey_complete(const nbdx_survey *survey);

/* The message of the last call on the survey. */
const char *nbdx_survey_error(const nbdx_survey *survey);
void nbdx_survey_free(nbdx_survey *survey);

/* Which contexts a request in flight is about. It is NBDX_TOPIC_ALL unless
 * nbdx_options_bitmap_first was called: then send each request on the connection that negotiated
 * these contexts, or with nbd_block_status_filter. */
#define NBDX_TOPIC_ALL 0
#define NBDX_TOPIC_BITMAPS 1
#define NBDX_TOPIC_DETAILS 2
int nbdx_survey_request_topic(const nbdx_survey *survey, uint64_t id);

/* The bitmaps that the survey asks about: bit i for the i-th bitmap named. nbdx_map_new and
 * nbdx_policy_incremental take this number. */
int nbdx_survey_bitmaps(const nbdx_survey *survey, uint32_t *bitmaps);

/* The place where a survey on a new connection can go on: see nbdx_options_resume. Save the numbers
 * in any form. */
typedef struct {
    uint64_t offset;      /* the first byte that was not read */
    uint64_t end;         /* the end of the survey's range */
    uint64_t export_size; /* the size of the export */
} nbdx_resume_point;
int nbdx_survey_resume_point(const nbdx_survey *survey, nbdx_resume_point *point);

/* The cost of a survey up to now. */
typedef struct {
    uint64_t requests;       /* made */
    uint64_t replies;        /* used */
    uint64_t failed;         /* replies not used: failed, wrong, or too large for the budget */
    uint64_t descriptors;    /* in the replies used */
    uint64_t asked_bytes;    /* the lengths of all requests together */
    uint64_t extents;        /* read */
    uint64_t disagreements;  /* extents where two answers disagreed, and the safer one was taken */
    uint64_t peak_bytes;     /* the most bytes of replies held at one time */
    uint64_t peak_in_flight; /* the most requests in flight at one time */
    uint64_t forgiven;       /* harmless deviations from the protocol, all together */
} nbdx_stats;
int nbdx_survey_stats(const nbdx_survey *survey, nbdx_stats *stats);

/* The deviations forgiven: a row of SERVER-BEHAVIOUR.md (in the repository), and how often. Returns
 * the number of rows, of which at most capacity are written; capacity may be 0. */
typedef struct {
    uint64_t row;
    uint64_t count;
} nbdx_forgiven;
ssize_t nbdx_survey_forgiven(const nbdx_survey *survey, nbdx_forgiven *out, size_t capacity);

/* ---- Options of a survey --------------------------------------------------------------------- */

typedef struct nbdx_options nbdx_options;

/* Options for a read-only export of size bytes: no contexts yet, the whole export. */
nbdx_options *nbdx_options_new(uint64_t size);

/* Adds a context that each reply must have. The i-th bitmap added, required or optional, is bit i
 * of an extent's bitmaps. */
int nbdx_options_require(nbdx_options *options, const char *context);

/* Adds a context that the server may lack. granted: whether the server granted it, the answer of
 * nbd_can_meta_context. One that was not granted is unknown in every extent; a bitmap keeps its bit
 * all the same. */
int nbdx_options_optional(nbdx_options *options, const char *context, int granted);

/* The export can be written to meanwhile. Its answers may change: of two that contradict each other
 * the safer one holds, and the map is of no single moment. One request is in flight at a time. */
int nbdx_options_writable(nbdx_options *options);

/* Asks the bitmaps over the whole range and the other contexts inside dirty ranges alone, so that
 * the cost follows the change. It needs two connections: see nbdx_survey_request_topic. */
int nbdx_options_bitmap_first(nbdx_options *options);

/* The minimum block size that the server announced: a power of two up to 65536. */
int nbdx_options_block_size(nbdx_options *options, uint32_t minimum);

/* Surveys length bytes from offset. Replaces nbdx_options_resume. */
int nbdx_options_range(nbdx_options *options, uint64_t offset, uint64_t length);

/* Surveys the rest of an interrupted survey. -1 when the export has another size now. Replaces
 * nbdx_options_range. */
int nbdx_options_resume(nbdx_options *options, const nbdx_resume_point *point);

/* The bytes that one request asks about at most: 2 GiB unless set, and never more. */
int nbdx_options_max_request(nbdx_options *options, uint64_t bytes);

/* The requests in flight at one time at most: 16 unless set. */
int nbdx_options_in_flight(nbdx_options *options, size_t requests);

/* The bytes of replies held at one time at most: 32 MiB unless set. */
int nbdx_options_budget(nbdx_options *options, size_t bytes);

/* The (length, flags) pairs of one context in one reply at most: 1048576 unless set. */
int nbdx_options_max_entries(nbdx_options *options, size_t pairs);

/* Refuses whatever breaks the protocol. Without this a survey forgives and counts deviations that
 * do no harm. */
int nbdx_options_strict(nbdx_options *options);

/* The requests are sent with LIBNBD_CMD_FLAG_REQ_ONE: one extent each. */
int nbdx_options_one_extent(nbdx_options *options);

/* The message of the last call on the options. */
const char *nbdx_options_error(const nbdx_options *options);
void nbdx_options_free(nbdx_options *options);

/* A survey with these options, which it copies. */
nbdx_survey *nbdx_survey_with_options(const nbdx_options *options);

/* ---- Policies: from extents to actions ------------------------------------------------------- */

typedef struct nbdx_policy nbdx_policy;

/* A range and what to do with it. No policy skips a byte that the target may not hold: where the
 * status does not say enough, it fails. */
typedef struct {
    uint64_t start;
    uint64_t length;
    uint32_t action; /* one of the four below */
    uint32_t flags;  /* NBDX_MAY_UNMAP */
} nbdx_action;

#define NBDX_COPY 1         /* read the bytes and store them */
#define NBDX_WRITE_ZEROES 2 /* make the bytes read as zeroes, or record that; never by TRIM alone */
#define NBDX_SKIP 3         /* the target has them already */
#define NBDX_ABSENT 4       /* the single layer that is backed up does not hold them */

#define NBDX_MAY_UNMAP 1 /* of NBDX_WRITE_ZEROES: the target need not allocate space */

/* A full backup. onto_zeroes: the target reads as zeroes already, so zeroes are skipped. */
nbdx_policy *nbdx_policy_full(int onto_zeroes);

/* The changes since the previous backup. The disk had previous_size bytes then and has size now.
 * bitmaps: the bits of all bitmaps that together track the changes. A byte is dirty where any of
 * them says so, clean where each of them does, and an error where one has no answer. Another size
 * is an error; with allow_grown a larger one is not: all beyond the old end is dirty then, whatever
 * the bitmaps say. */
nbdx_policy *nbdx_policy_incremental(uint64_t previous_size, uint64_t size, uint32_t bitmaps,
                                     int allow_grown);

/* The bytes that one layer of an image holds, without those of the layers below it. Needs the
 * context qemu:allocation-depth. */
nbdx_policy *nbdx_policy_single_layer(void);

/* Chooses the treatment of bytes that have to be brought over and read as zeroes. */
#define NBDX_ZEROES_MAY_UNMAP 0  /* they need no space on the target; the default */
#define NBDX_ZEROES_KEEP_HOLES 1 /* they need no space where the source has a hole */
#define NBDX_ZEROES_ALLOCATE 2   /* they get space */
#define NBDX_ZEROES_AS_DATA 3    /* they are copied: for servers whose zero status is wrong */
int nbdx_policy_zeroes(nbdx_policy *policy, int zeroes);

/* The message of the last call on the policy. */
const char *nbdx_policy_error(const nbdx_policy *policy);
void nbdx_policy_free(nbdx_policy *policy);

/* ---- Maps: a whole disk in memory, some 9 bytes an extent ------------------------------------ */

typedef struct nbdx_map nbdx_map;

/* An empty map that starts at byte start. bitmaps: the bits of the bitmaps that its extents know,
 * for example those that nbdx_survey_bitmaps gives. */
nbdx_map *nbdx_map_new(uint64_t start, uint32_t bitmaps);

/* Moves all extents that a survey has ready to the end of the map, as if nbdx_survey_read read
 * them. Returns how many, 0 when there are none now, -1 on error. The call uses both objects. A map
 * that does not end where the survey goes on is an error, and takes nothing.
 * Until nbdx_survey_complete has returned 0, the map may lack extents. */
ssize_t nbdx_map_read_survey(nbdx_map *map, nbdx_survey *survey);

/* Adds extents, the first at the end of the map and each other one at the end of the one before it.
 * On error nothing is added. */
int nbdx_map_append(nbdx_map *map, const nbdx_extent *extents, size_t nr_extents);

/* 0 when the map describes every byte from start to end, else -1. */
int nbdx_map_covers(const nbdx_map *map, uint64_t start, uint64_t end);

/* The extent over the byte at offset. Returns 1, 0 outside of the map, -1 on error. */
int nbdx_map_get(const nbdx_map *map, uint64_t offset, nbdx_extent *out);

/* The extents from byte from on, the first one cut there. Returns the number written, 0 at the end,
 * -1 on error. To go on, call it with the end of the last one. */
ssize_t nbdx_map_read(const nbdx_map *map, uint64_t from, nbdx_extent *out, size_t capacity);

/* The actions that a policy takes from byte from on, neighbours with the same action joined.
 * Otherwise as nbdx_map_read. */
ssize_t nbdx_map_actions(const nbdx_map *map, const nbdx_policy *policy, uint64_t from,
                         nbdx_action *out, size_t capacity);

/* The bytes of each action, and the number of requests of a plan. */
typedef struct {
    uint64_t copy;   /* bytes */
    uint64_t zero;   /* bytes */
    uint64_t skip;   /* bytes */
    uint64_t absent; /* bytes */
    uint64_t copies; /* requests that copy */
    uint64_t zeroes; /* requests that zero */
} nbdx_totals;

/* The bytes that a policy copies, zeroes, skips and finds absent. Without a plan there are no
 * requests: copies and zeroes are 0. */
int nbdx_map_action_totals(const nbdx_map *map, const nbdx_policy *policy, nbdx_totals *totals);

/* The bytes and extents of each status, in the order in which the statuses first come. Returns the
 * number of rows, of which at most capacity are written; capacity may be 0. */
typedef struct {
    uint64_t bytes;
    uint64_t extents;
    uint32_t flags;    /* this and the next two as in nbdx_extent */
    uint32_t depth;
    uint32_t bitmaps;
    uint32_t reserved; /* 0 */
} nbdx_total;
ssize_t nbdx_map_totals(const nbdx_map *map, nbdx_total *out, size_t capacity);

/* A range where two maps differ, before_ in the first and after_ in the second. Bytes that only one
 * map describes differ too: in_before or in_after is 0 there, and 1 otherwise. */
typedef struct {
    uint64_t start;
    uint64_t length;
    uint32_t before_flags;
    uint32_t before_depth;
    uint32_t before_bitmaps;
    uint32_t in_before;
    uint32_t after_flags;
    uint32_t after_depth;
    uint32_t after_bitmaps;
    uint32_t in_after;
} nbdx_change;

/* The ranges where two maps differ, from byte from on. Otherwise as nbdx_map_read. */
ssize_t nbdx_map_diff(const nbdx_map *before, const nbdx_map *after, uint64_t from,
                      nbdx_change *out, size_t capacity);

/* The bytes that the map describes (start to end), its extents, and its bytes in memory. */
int nbdx_map_measure(const nbdx_map *map, uint64_t *start, uint64_t *end, uint64_t *nr_extents,
                     uint64_t *memory);

/* The message of the last call on the map. */
const char *nbdx_map_error(const nbdx_map *map);
void nbdx_map_free(nbdx_map *map);

/* ---- Plans: from actions to requests --------------------------------------------------------- */

typedef struct nbdx_plan nbdx_plan;

/* The requests that carry out a policy on the map as it is now, in whole blocks of block_size bytes
 * (a power of two): copies grow to blocks, zeroes shrink to them, nothing passes the end. The end
 * of the map is taken for the end of the disk. */
nbdx_plan *nbdx_plan_new(const nbdx_map *map, const nbdx_policy *policy, uint64_t block_size);

/* These change a plan before its first step is read, and fail afterwards. */

/* The bytes that one request copies at most: 32 MiB unless set. */
int nbdx_plan_max_copy(nbdx_plan *plan, uint64_t bytes);

/* The bytes that one request zeroes at most: 1 GiB unless set. */
int nbdx_plan_max_zero(nbdx_plan *plan, uint64_t bytes);

/* Two copies become one request when the gap between them has at most this many bytes: 0 unless
 * set. */
int nbdx_plan_join_gaps(nbdx_plan *plan, uint64_t bytes);

/* Touches no skipped byte, not even to fill a block: for exports whose clean bytes cannot be
 * read. */
int nbdx_plan_dirty_only(nbdx_plan *plan);

/* Starts at a position that nbdx_plan_position gave. -1 when the disk has another size now. */
int nbdx_plan_resume(nbdx_plan *plan, uint64_t offset, uint64_t size);

/* Reads steps: NBDX_COPY or NBDX_WRITE_ZEROES, ascending. Returns the number written, 0 at the
 * end, -1 on error, after which the plan is over: each later call fails as well. The steps before
 * an error come first. */
ssize_t nbdx_plan_read(nbdx_plan *plan, nbdx_action *out, size_t capacity);

/* The end of the last step read, and the size of the disk: the arguments of nbdx_plan_resume. A
 * caller that works on several steps at once saves the start of the first that is not done. */
int nbdx_plan_position(const nbdx_plan *plan, uint64_t *offset, uint64_t *size);

/* The bytes and requests of the steps read. */
int nbdx_plan_totals(const nbdx_plan *plan, nbdx_totals *totals);

/* The message of the last call on the plan. */
const char *nbdx_plan_error(const nbdx_plan *plan);
void nbdx_plan_free(nbdx_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
