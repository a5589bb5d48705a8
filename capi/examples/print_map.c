/* Prints the map of an NBD export, through libnbd: the start, the length and the status of each extent.
 *
 *     print_map URI [BITMAP...]
 *
 *     cc -o print_map print_map.c $(pkg-config --cflags --libs nbd_extents libnbd)
 *
 * It takes libnbd 1.14 or later; with 1.18 nbd_block_status_64 and nbdx_survey_extents64 fit as well. */
#include <err.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnbd.h>
#include <nbd_extents.h>

/* The request that is in flight: what the callback has to know. */
struct reply {
    nbdx_survey *survey;
    uint64_t id;
};

/* libnbd calls this for each context of a reply. To return -1 makes nbd_block_status fail. */
static int on_extents(void *user, const char *context, uint64_t offset, uint32_t *entries,
                      size_t nr_entries, int *error)
{
    struct reply *reply = user;

    (void) error;
    return nbdx_survey_extents32(reply->survey, reply->id, context, offset, entries, nr_entries);
}

/* Connects, and asks for the contexts. The server must grant each of them. */
static struct nbd_handle *connect_to(const char *uri, const char *const *contexts, size_t nr_contexts)
{
    struct nbd_handle *nbd = nbd_create();
    size_t i;

    if (nbd == NULL)
        errx(1, "%s", nbd_get_error());
    for (i = 0; i < nr_contexts; i++)
        if (nbd_add_meta_context(nbd, contexts[i]) == -1)
            errx(1, "%s", nbd_get_error());
    if (nbd_connect_uri(nbd, uri) == -1)
        errx(1, "%s", nbd_get_error());
    for (i = 0; i < nr_contexts; i++)
        if (nbd_can_meta_context(nbd, contexts[i]) != 1)
            errx(1, "the server does not have the context %s", contexts[i]);
    return nbd;
}

/* A survey of the export. One that can be written to meanwhile is asked for by name. */
static nbdx_survey *survey_of(struct nbd_handle *nbd, const char *const *contexts, size_t nr_contexts)
{
    int64_t block = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);
    nbdx_options *options = nbdx_options_new((uint64_t) nbd_get_size(nbd));
    nbdx_survey *survey;
    bool chosen = options != NULL;
    size_t i;

    for (i = 0; i < nr_contexts; i++)
        chosen = chosen && nbdx_options_require(options, contexts[i]) == 0;
    if (block > 0)
        chosen = chosen && nbdx_options_block_size(options, (uint32_t) block) == 0;
    if (nbd_is_read_only(nbd) != 1)
        chosen = chosen && nbdx_options_writable(options) == 0;
    if (!chosen)
        errx(1, "%s", nbdx_last_error());
    survey = nbdx_survey_with_options(options);
    if (survey == NULL)
        errx(1, "%s", nbdx_last_error());
    nbdx_options_free(options);
    return survey;
}

static void print(const nbdx_extent *extent)
{
    printf("%" PRIu64 " %" PRIu64, extent->start, extent->length);
    if (extent->flags & NBDX_DIRTY_KNOWN)
        printf(extent->flags & NBDX_DIRTY ? " dirty" : " clean");
    printf(extent->flags & NBDX_ZERO ? " zero" : " data");
    printf(extent->flags & NBDX_HOLE ? " hole\n" : "\n");
}

int main(int argc, char **argv)
{
    size_t nr_contexts = (size_t) (argc < 2 ? 1 : argc - 1), i;
    char **contexts = calloc(nr_contexts, sizeof *contexts);
    struct nbd_handle *nbd;
    struct reply reply;
    nbdx_extent extents[512];
    uint64_t offset, length;
    ssize_t count, nth;
    int more;

    if (argc < 2) {
        fprintf(stderr, "usage: print_map URI [BITMAP...]\n");
        return 2;
    }
    if (contexts == NULL)
        err(1, "calloc");
    for (i = 0; i < nr_contexts; i++) {
        const char *bitmap = i == 0 ? NULL : argv[i + 1];
        size_t room = strlen("qemu:dirty-bitmap:") + strlen(bitmap ? bitmap : "") + 1;
        contexts[i] = malloc(room);
        if (contexts[i] == NULL)
            err(1, "malloc");
        if (bitmap)
            snprintf(contexts[i], room, "qemu:dirty-bitmap:%s", bitmap);
        else
            snprintf(contexts[i], room, "base:allocation");
    }
    nbd = connect_to(argv[1], (const char *const *) contexts, nr_contexts);
    reply.survey = survey_of(nbd, (const char *const *) contexts, nr_contexts);

    while ((more = nbdx_survey_next_request(reply.survey, &reply.id, &offset, &length)) == 1) {
        nbd_extent_callback callback = {.callback = on_extents, .user_data = &reply};
        if (nbd_block_status(nbd, length, offset, callback, 0) == -1) {
            /* where the survey refused the reply, libnbd's error says only that the callback failed */
            const char *refused = nbdx_survey_error(reply.survey);
            errx(1, "%s", *refused ? refused : nbd_get_error());
        }
        if (nbdx_survey_reply_done(reply.survey, reply.id) == -1)
            errx(1, "%s", nbdx_survey_error(reply.survey));
        while ((count = nbdx_survey_read(reply.survey, extents, 512)) > 0)
            for (nth = 0; nth < count; nth++)
                print(&extents[nth]);
        if (count == -1)
            errx(1, "%s", nbdx_survey_error(reply.survey));
    }
    /* the proof that every byte was described */
    if (more == -1 || nbdx_survey_complete(reply.survey) == -1)
        errx(1, "%s", nbdx_survey_error(reply.survey));

    nbdx_survey_free(reply.survey);
    nbd_close(nbd);
    for (i = 0; i < nr_contexts; i++)
        free(contexts[i]);
    free(contexts);
    return 0;
}
