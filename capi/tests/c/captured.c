/* Prints the map of an export from captured replies of a real server, through the entry that libnbd's
 * callback would call: with 64, structs of libnbd's layout, with 32, pairs of uint32_t.
 *
 *     captured FILE 32|64
 *
 * The file is one of cli/demo/capture.py: `size BYTES`, `context ID NAME`, `payload HEX`, the payload of
 * one block status chunk as it came over the wire. One request, for the whole export, was answered. */
#include "check.h"

/* As libnbd's manual page nbd_block_status_64(3) declares it; libnbd 1.14 has no such type. */
typedef struct {
    uint64_t length;
    uint64_t flags;
} nbd_extent;

enum { CONTEXTS = 34, BYTES = 1 << 16, LINE = 2 * BYTES + 16 };

struct capture {
    uint64_t size;
    size_t contexts, payloads;
    unsigned ids[CONTEXTS];
    char names[CONTEXTS][300];
    size_t lengths[CONTEXTS];
    unsigned char bytes[CONTEXTS][BYTES];
};

static struct capture capture;

static void read_capture(const char *path)
{
    static char line[LINE];
    FILE *file = fopen(path, "r");

    CHECK(file != NULL);
    while (fgets(line, LINE, file) != NULL) {
        const char *hex = line + strlen("payload ");
        size_t context = capture.contexts, payload = capture.payloads;

        CHECK(context < CONTEXTS && payload < CONTEXTS);
        if (sscanf(line, "size %" SCNu64, &capture.size) == 1)
            continue;
        if (sscanf(line, "context %u %299s", &capture.ids[context], capture.names[context]) == 2) {
            capture.contexts++;
            continue;
        }
        CHECK(strncmp(line, "payload ", strlen("payload ")) == 0);
        for (; *hex != '\n' && *hex != 0; hex += 2) {
            unsigned byte;
            CHECK(capture.lengths[payload] < BYTES && sscanf(hex, "%2x", &byte) == 1);
            capture.bytes[payload][capture.lengths[payload]++] = (unsigned char) byte;
        }
        capture.payloads++;
    }
    fclose(file);
}

/* A number as the wire has it: the first byte is the highest. */
static uint64_t number(const unsigned char *bytes, size_t width)
{
    uint64_t value = 0;

    while (width-- > 0)
        value = value << 8 | *bytes++;
    return value;
}

/* Structured replies: a context id, then a length and flags of 4 bytes each for each extent. */
static int feed_32(nbdx_survey *survey, uint64_t id, const char *context, const unsigned char *payload,
                   size_t length)
{
    size_t count = (length - 4) / 4, i;
    uint32_t *entries = calloc(count, sizeof *entries);
    int result;

    CHECK(entries != NULL && length % 8 == 4);
    for (i = 0; i < count; i++)
        entries[i] = (uint32_t) number(payload + 4 + 4 * i, 4);
    result = nbdx_survey_extents32(survey, id, context, 0, entries, count);
    free(entries);
    return result;
}

/* Extended headers: a context id, the number of extents, then a length and flags of 8 bytes each. */
static int feed_64(nbdx_survey *survey, uint64_t id, const char *context, const unsigned char *payload,
                   size_t length)
{
    size_t count = (length - 8) / 16, i;
    nbd_extent *entries = calloc(count, sizeof *entries);
    int result;

    CHECK(entries != NULL && length % 16 == 8 && number(payload + 4, 4) == count);
    for (i = 0; i < count; i++) {
        entries[i].length = number(payload + 8 + 16 * i, 8);
        entries[i].flags = number(payload + 16 + 16 * i, 8);
    }
    result = nbdx_survey_extents64(survey, id, context, 0, entries, count);
    free(entries);
    return result;
}

static const char *name_of(unsigned id)
{
    size_t i;

    for (i = 0; i < capture.contexts; i++)
        if (capture.ids[i] == id)
            return capture.names[i];
    CHECK(!"a chunk of a context that was not negotiated");
    return NULL;
}

/* As examples/print_map.c does, with the depth after it where that is known. */
static void print(const nbdx_extent *extent)
{
    printf("%" PRIu64 " %" PRIu64, extent->start, extent->length);
    printf(extent->flags & NBDX_DIRTY ? " dirty" : " clean");
    printf(extent->flags & NBDX_ZERO ? " zero" : " data");
    printf(extent->flags & NBDX_HOLE ? " hole" : "");
    if (extent->flags & NBDX_DEPTH_KNOWN)
        printf(" depth %" PRIu32, extent->depth);
    printf("\n");
}

int main(int argc, char **argv)
{
    const char *names[CONTEXTS];
    uint64_t id, offset, length;
    nbdx_extent extents[3];
    nbdx_survey *survey;
    nbdx_stats stats;
    ssize_t count, nth;
    size_t i;

    CHECK(argc == 3);
    read_capture(argv[1]);
    for (i = 0; i < capture.contexts; i++)
        names[i] = capture.names[i];
    survey = nbdx_survey_new(capture.size, names, capture.contexts);
    CHECK(survey != NULL);
    CHECK(nbdx_survey_next_request(survey, &id, &offset, &length) == 1);
    /* the request whose replies were captured */
    CHECK(offset == 0 && length == capture.size);
    for (i = 0; i < capture.payloads; i++) {
        const unsigned char *payload = capture.bytes[i];
        const char *context = name_of((unsigned) number(payload, 4));
        CHECK((strcmp(argv[2], "64") == 0 ? feed_64 : feed_32)(survey, id, context, payload,
                                                             capture.lengths[i]) == 0);
    }
    CHECK(nbdx_survey_reply_done(survey, id) == 0);
    while ((count = nbdx_survey_read(survey, extents, 3)) > 0)
        for (nth = 0; nth < count; nth++)
            print(&extents[nth]);
    CHECK(count == 0 && nbdx_survey_complete(survey) == 0);
    /* a real server's reply needs no leniency */
    CHECK(nbdx_survey_stats(survey, &stats) == 0 && stats.forgiven == 0 && stats.requests == 1);
    nbdx_survey_free(survey);
    return 0;
}
