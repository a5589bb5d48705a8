/* Reads the extents of a survey in batches of 512, and prints the processor time of the reading alone, in
 * nanoseconds, with a sum that benches/read.rs has to find as well. The replies are those of read.rs. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "nbd_extents.h"

enum { BATCH = 512, PIECE = 4096 };

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t) time.tv_sec * 1000000000u + (uint64_t) time.tv_nsec;
}

/* A reply of pieces with alternating flags, from offset on. */
static size_t reply(uint32_t *entries, uint64_t offset, uint64_t length, uint32_t run, uint32_t flags)
{
    size_t count = 0;
    uint64_t position;

    for (position = offset; position < offset + length; position += (uint64_t) run * PIECE) {
        entries[count++] = run * PIECE;
        entries[count++] = position / PIECE / run % 2 ? flags : 0;
    }
    return count;
}

int main(int argc, char **argv)
{
    const char *contexts[] = {"base:allocation", "qemu:dirty-bitmap:b0"};
    uint64_t size = strtoull(argc > 1 ? argv[1] : "", NULL, 10), id, offset, length, sum = 0, spent = 0;
    nbdx_survey *survey = nbdx_survey_new(size, contexts, 2);
    uint32_t *entries = malloc((1u << 21) * sizeof *entries);
    static nbdx_extent extents[BATCH];
    ssize_t count, i;

    while (nbdx_survey_next_request(survey, &id, &offset, &length) == 1) {
        size_t nr = reply(entries, offset, length, 1, 3);
        if (nbdx_survey_extents32(survey, id, contexts[0], offset, entries, nr) == -1)
            return 1;
        nr = reply(entries, offset, length, 2, 1);
        if (nbdx_survey_extents32(survey, id, contexts[1], offset, entries, nr) == -1
            || nbdx_survey_reply_done(survey, id) == -1)
            return 1;
        uint64_t start = now();
        while ((count = nbdx_survey_read(survey, extents, BATCH)) > 0)
            for (i = 0; i < count; i++)
                sum += extents[i].length * (extents[i].flags & (NBDX_DIRTY | NBDX_ZERO));
        spent += now() - start;
    }
    if (nbdx_survey_complete(survey) == -1)
        return 1;
    nbdx_survey_free(survey);
    free(entries);
    printf("%llu %llu\n", (unsigned long long) spent, (unsigned long long) sum);
    return 0;
}
