/* The libnbd half of the differential fuzzer: plays one session a line, in a process of its own.
 *
 * A line of standard input is `SOCKET CONTEXTS OPERATION...`, with s:OFFSET:LENGTH (block status),
 * r:OFFSET:LENGTH (read) and f (flush). All operations are started, then awaited together. The
 * answer is a line for the export, one for each operation, and `end`; outcome.rs reads it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libnbd.h>

#define MAX_OPERATIONS 16
#define MAX_CHUNKS 64
/* A session that takes longer is hung, and ends this process. */
#define SECONDS 8

static const char *const names[] = {"base:allocation", "qemu:dirty-bitmap:b0"};

struct chunk {
    int context;
    size_t count;
    uint32_t *entries;
};

struct operation {
    char kind;
    uint64_t offset, length;
    unsigned char *data;
    int64_t cookie;
    int finished, error;
    size_t nr_chunks;
    struct chunk chunks[MAX_CHUNKS];
};

static int on_extents(void *user, const char *context, uint64_t offset, uint32_t *entries, size_t count,
                      int *error)
{
    struct operation *operation = user;
    (void)offset;
    (void)error;
    if (operation->nr_chunks == MAX_CHUNKS)
        return 0;
    struct chunk *chunk = &operation->chunks[operation->nr_chunks++];
    chunk->context = strcmp(context, names[0]) != 0;
    chunk->count = count;
    chunk->entries = malloc(count * sizeof *entries + 1);
    if (chunk->entries == NULL)
        abort();
    memcpy(chunk->entries, entries, count * sizeof *entries);
    return 0;
}

static int on_completion(void *user, int *error)
{
    struct operation *operation = user;
    operation->finished = 1;
    operation->error = *error;
    return 1;
}

/* A message on one line. */
static void print_error(const char *prefix)
{
    const char *message = nbd_get_error();
    printf("%s %d ", prefix, nbd_get_errno());
    for (; message && *message; message++)
        putchar(*message >= ' ' && *message <= '~' ? *message : '?');
    putchar('\n');
}

static void print_export(struct nbd_handle *nbd)
{
    printf("export %" PRId64 " %d %d", nbd_get_size(nbd), nbd_is_read_only(nbd), nbd_can_flush(nbd));
    printf(" %d %d", nbd_can_zero(nbd), nbd_can_trim(nbd));
    printf(" %" PRId64, nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM));
    for (size_t i = 0; i < 2; i++)
        printf(" %d", nbd_can_meta_context(nbd, names[i]));
    putchar('\n');
}

static void start(struct nbd_handle *nbd, struct operation *operation)
{
    nbd_completion_callback done = {.callback = on_completion, .user_data = operation};
    nbd_extent_callback extents = {.callback = on_extents, .user_data = operation};
    switch (operation->kind) {
    case 's':
        operation->cookie = nbd_aio_block_status(nbd, operation->length, operation->offset, extents, done, 0);
        break;
    case 'r':
        operation->data = calloc(operation->length + 1, 1);
        operation->cookie =
            nbd_aio_pread(nbd, operation->data, operation->length, operation->offset, done, 0);
        break;
    default:
        operation->cookie = nbd_aio_flush(nbd, done, 0);
    }
    if (operation->cookie == -1) {
        operation->finished = 2;
        print_error("unasked");
    }
}

static void print_operation(size_t number, struct operation *operation)
{
    if (operation->finished == 2)
        return;
    /* an operation pending when a connection dies is completed with this number, which no server can send */
    if (!operation->finished || operation->error == ENOTCONN) {
        printf("lost %zu\n", number);
        return;
    }
    if (operation->error != 0) {
        printf("failed %zu %d\n", number, operation->error);
        return;
    }
    printf("done %zu", number);
    for (size_t i = 0; i < operation->nr_chunks; i++) {
        const struct chunk *chunk = &operation->chunks[i];
        printf(" c%d", chunk->context);
        for (size_t j = 0; j < chunk->count; j++)
            printf(" %" PRIu32, chunk->entries[j]);
    }
    if (operation->data) {
        uint64_t hash = 0xcbf29ce484222325;
        for (uint64_t i = 0; i < operation->length; i++)
            hash = (hash ^ operation->data[i]) * 0x100000001b3;
        printf(" h %" PRIu64, hash);
    }
    putchar('\n');
}

static void play(struct nbd_handle *nbd, const char *socket, struct operation *operations, size_t count)
{
    if (nbd_connect_unix(nbd, socket) == -1) {
        print_error("refused");
        return;
    }
    /* also where there is no error yet: a handshake without a size */
    if (nbd_get_size(nbd) == -1) {
        print_error("refused");
        return;
    }
    print_export(nbd);
    for (size_t i = 0; i < count; i++)
        start(nbd, &operations[i]);
    for (;;) {
        size_t pending = 0;
        for (size_t i = 0; i < count; i++)
            pending += !operations[i].finished;
        if (pending == 0)
            break;
        if (nbd_poll(nbd, -1) == -1) {
            print_error("died");
            break;
        }
    }
    for (size_t i = 0; i < count; i++)
        print_operation(i, &operations[i]);
}

static void session(char *line)
{
    struct operation operations[MAX_OPERATIONS];
    size_t count = 0;
    memset(operations, 0, sizeof operations);
    char *save = NULL, *word;
    const char *socket = strtok_r(line, " \n", &save);
    const char *contexts = strtok_r(NULL, " \n", &save);
    while (count < MAX_OPERATIONS && (word = strtok_r(NULL, " \n", &save)) != NULL) {
        struct operation *operation = &operations[count++];
        operation->kind = word[0];
        sscanf(word + 1, ":%" SCNu64 ":%" SCNu64, &operation->offset, &operation->length);
    }
    struct nbd_handle *nbd = nbd_create();
    if (nbd == NULL)
        abort();
    for (int i = 0; i < atoi(contexts); i++)
        nbd_add_meta_context(nbd, names[i]);
    play(nbd, socket, operations, count);
    nbd_close(nbd);
    for (size_t i = 0; i < count; i++) {
        free(operations[i].data);
        for (size_t j = 0; j < operations[i].nr_chunks; j++)
            free(operations[i].chunks[j].entries);
    }
    puts("end");
    fflush(stdout);
}

int main(void)
{
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        alarm(SECONDS);
        session(line);
        alarm(0);
    }
    return 0;
}
