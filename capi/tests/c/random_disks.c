/* Surveys of random disks against a model that knows one byte of status for each block of 512. The server
 * answers each context with a reach of its own, cuts extents anywhere, answers in any order, fails at
 * times, and speaks through the 32-bit or the 64-bit entry. The map, its totals, its actions and a plan
 * must be those of the model. */
#include "check.h"

enum { BLOCK = 512, MOST = 200, BITMAPS = 2, CONTEXTS = BITMAPS + 2 };
enum { ALLOCATION, DEPTH, FIRST_BITMAP };

static const char *names[CONTEXTS] = {"base:allocation", "qemu:allocation-depth",
                                      "qemu:dirty-bitmap:daily", "qemu:dirty-bitmap:weekly"};

/* The flags of each context for each block. */
struct disk {
    size_t blocks;
    unsigned char flags[CONTEXTS][MOST];
};

static uint64_t state;

static unsigned below(unsigned limit)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned) (state >> 33) % limit;
}

static void make(struct disk *disk)
{
    static const unsigned kinds[CONTEXTS] = {4, 3, 2, 2};
    size_t context, block;

    disk->blocks = 1 + below(MOST);
    for (context = 0; context < CONTEXTS; context++) {
        unsigned char flags = 0;
        for (block = 0; block < disk->blocks; block++) {
            if (block == 0 || below(6) == 0)
                flags = (unsigned char) below(kinds[context]);
            disk->flags[context][block] = flags;
        }
    }
}

/* One context's part of a reply: from a block on, at least one extent, as far as it pleases the server. */
static int answer(nbdx_survey *survey, uint64_t id, const struct disk *disk, int context, uint64_t offset,
                  uint64_t length)
{
    uint32_t narrow[2 * MOST];
    nbdx_entry wide[MOST];
    size_t block = offset / BLOCK, count = 0, most = 1 + below(20);
    size_t end = (offset + length) / BLOCK;

    while (block < end && count < most) {
        size_t start = block;
        unsigned char flags = disk->flags[context][block];
        /* neighbours with equal flags may come apart */
        while (block < disk->blocks && disk->flags[context][block] == flags && (block == start || below(9)))
            block++;
        wide[count].length = (block - start) * BLOCK;
        wide[count].flags = flags;
        narrow[2 * count] = (uint32_t) wide[count].length;
        narrow[2 * count + 1] = flags;
        count++;
    }
    if (below(2))
        return nbdx_survey_extents32(survey, id, names[context], offset, narrow, 2 * count);
    return nbdx_survey_extents64(survey, id, names[context], offset, wide, count);
}

struct request {
    uint64_t id, offset, length;
};

/* The extent says what the model says of each of its blocks. */
static void check_extent(const struct disk *disk, const nbdx_extent *extent)
{
    size_t block;

    CHECK(extent->start % BLOCK == 0 && extent->length % BLOCK == 0 && extent->reserved == 0);
    for (block = extent->start / BLOCK; block < (extent->start + extent->length) / BLOCK; block++) {
        uint32_t allocation = disk->flags[ALLOCATION][block];
        uint32_t bitmaps = disk->flags[FIRST_BITMAP][block] | disk->flags[FIRST_BITMAP + 1][block] << 1;
        uint32_t flags = NBDX_DIRTY_KNOWN | NBDX_ZERO_KNOWN | NBDX_HOLE_KNOWN | NBDX_DEPTH_KNOWN;
        flags |= allocation & 1 ? NBDX_HOLE : 0;
        flags |= allocation & 2 ? NBDX_ZERO : 0;
        flags |= bitmaps ? NBDX_DIRTY : 0;
        CHECK(extent->flags == flags);
        CHECK(extent->depth == disk->flags[DEPTH][block]);
        CHECK(extent->bitmaps == bitmaps);
    }
}

static void survey_into(nbdx_map *map, const struct disk *disk)
{
    struct request flying[16];
    size_t in_flight = 0;
    nbdx_survey *survey = nbdx_survey_new(disk->blocks * BLOCK, names, CONTEXTS);
    uint32_t bitmaps;
    nbdx_stats stats;

    CHECK(survey != NULL);
    CHECK(nbdx_survey_bitmaps(survey, &bitmaps) == 0 && bitmaps == 3);
    for (;;) {
        struct request *next = &flying[in_flight];
        int more = in_flight < 16
                       ? nbdx_survey_next_request(survey, &next->id, &next->offset, &next->length)
                       : 0;
        CHECK(more >= 0);
        in_flight += (size_t) more;
        if (more == 1 && below(2))
            continue;
        if (in_flight == 0)
            break;
        size_t chosen = below((unsigned) in_flight);
        struct request request = flying[chosen];
        flying[chosen] = flying[--in_flight];
        if (below(20) == 0) {
            CHECK(nbdx_survey_reply_failed(survey, request.id) == 0);
        } else {
            int order = (int) below(CONTEXTS), nth;
            for (nth = 0; nth < CONTEXTS; nth++)
                CHECK(answer(survey, request.id, disk, (nth + order) % CONTEXTS, request.offset,
                             request.length) == 0);
            CHECK(nbdx_survey_reply_done(survey, request.id) == 0);
        }
        CHECK(nbdx_map_read_survey(map, survey) >= 0);
    }
    CHECK(nbdx_survey_complete(survey) == 0);
    CHECK(nbdx_survey_stats(survey, &stats) == 0 && stats.requests == stats.replies + stats.failed);
    nbdx_survey_free(survey);
}

/* The map covers the disk once, each extent is right, and no two neighbours are equal. */
static void check_map(const nbdx_map *map, const struct disk *disk)
{
    nbdx_extent extents[7], before = {0, 0, 0, 0, 0, 0}, one;
    uint64_t position = 0, start, end, count, memory;
    ssize_t got, i;

    while ((got = nbdx_map_read(map, position, extents, 7)) > 0) {
        for (i = 0; i < got; i++) {
            CHECK(extents[i].start == position);
            check_extent(disk, &extents[i]);
            CHECK(position == 0 || extents[i].flags != before.flags || extents[i].depth != before.depth
                  || extents[i].bitmaps != before.bitmaps);
            CHECK(nbdx_map_get(map, position + extents[i].length - 1, &one) == 1);
            CHECK(memcmp(&one, &extents[i], sizeof one) == 0);
            before = extents[i];
            position += extents[i].length;
        }
    }
    CHECK(got == 0 && position == disk->blocks * BLOCK);
    CHECK(nbdx_map_covers(map, 0, position) == 0);
    CHECK(nbdx_map_measure(map, &start, &end, &count, &memory) == 0);
    CHECK(start == 0 && end == position && count > 0 && memory > 0);
}

static void check_totals(const nbdx_map *map, const struct disk *disk)
{
    nbdx_total rows[64];
    ssize_t got = nbdx_map_totals(map, rows, 64), i;
    uint64_t sum = 0;

    CHECK(got > 0 && got <= 64 && nbdx_map_totals(map, NULL, 0) == got);
    for (i = 0; i < got; i++)
        sum += rows[i].bytes;
    CHECK(sum == disk->blocks * BLOCK);
}

/* An incremental by the daily bitmap: what the plan moves is what the model calls dirty. */
static void check_plan(const nbdx_map *map, const struct disk *disk)
{
    uint64_t size = disk->blocks * BLOCK, position = 0, offset, saved_size;
    unsigned char done[MOST] = {0};
    nbdx_policy *policy = nbdx_policy_incremental(size, size, 1, 0);
    nbdx_plan *plan = nbdx_plan_new(map, policy, BLOCK);
    nbdx_action step, action;
    nbdx_totals totals, by_plan;
    ssize_t got;
    size_t block;

    CHECK(policy != NULL && plan != NULL);
    while ((got = nbdx_plan_read(plan, &step, 1)) == 1) {
        CHECK(nbdx_plan_position(plan, &offset, &saved_size) == 0);
        CHECK(offset == step.start + step.length && saved_size == size);
        for (block = step.start / BLOCK; block < offset / BLOCK; block++)
            done[block] = (unsigned char) step.action;
        if (below(8) == 0) {
            /* interrupted, and taken up by another plan */
            nbdx_plan_free(plan);
            plan = nbdx_plan_new(map, policy, BLOCK);
            CHECK(nbdx_plan_resume(plan, offset, saved_size) == 0);
        }
    }
    CHECK(got == 0);
    for (block = 0; block < disk->blocks; block++) {
        int zero = disk->flags[ALLOCATION][block] & 2;
        int expected = !disk->flags[FIRST_BITMAP][block] ? 0 : zero ? NBDX_WRITE_ZEROES : NBDX_COPY;
        CHECK(done[block] == expected);
    }
    while ((got = nbdx_map_actions(map, policy, position, &action, 1)) == 1) {
        CHECK(action.start == position);
        for (block = position / BLOCK; block < (position + action.length) / BLOCK; block++)
            CHECK(action.action == (done[block] ? done[block] : NBDX_SKIP));
        position += action.length;
    }
    CHECK(got == 0 && position == size);
    CHECK(nbdx_map_action_totals(map, policy, &totals) == 0);
    CHECK(totals.copy + totals.zero + totals.skip == size && totals.absent == 0);
    nbdx_plan_free(plan);

    plan = nbdx_plan_new(map, policy, BLOCK);
    while (nbdx_plan_read(plan, &step, 1) == 1)
        ;
    CHECK(nbdx_plan_totals(plan, &by_plan) == 0 && by_plan.copy == totals.copy);
    nbdx_plan_free(plan);
    nbdx_policy_free(policy);
}

/* The same disk as extents through C's hands is the same map; another disk differs where the models do. */
static void check_copy_and_diff(const nbdx_map *map, const struct disk *disk)
{
    nbdx_extent extents[5];
    nbdx_change change;
    struct disk other = *disk;
    nbdx_map *copy = nbdx_map_new(0, 3), *changed = nbdx_map_new(0, 3);
    uint64_t position = 0;
    ssize_t got;
    size_t block, touched = below((unsigned) disk->blocks);

    while ((got = nbdx_map_read(map, position, extents, 5)) > 0) {
        CHECK(nbdx_map_append(copy, extents, (size_t) got) == 0);
        position = extents[got - 1].start + extents[got - 1].length;
    }
    CHECK(nbdx_map_diff(map, copy, 0, &change, 1) == 0);
    nbdx_map_free(copy);

    other.flags[FIRST_BITMAP][touched] ^= 1;
    survey_into(changed, &other);
    position = 0;
    block = 0;
    while ((got = nbdx_map_diff(map, changed, position, &change, 1)) == 1) {
        CHECK(change.start == touched * BLOCK && change.length == BLOCK);
        CHECK(change.in_before == 1 && change.in_after == 1);
        CHECK((change.before_bitmaps ^ change.after_bitmaps) == 1);
        position = change.start + change.length;
        block++;
    }
    CHECK(got == 0 && block == 1);
    nbdx_map_free(changed);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 300, round;

    for (round = 1; round <= rounds; round++) {
        struct disk disk;
        nbdx_map *map = nbdx_map_new(0, 3);
        state = (uint64_t) round * 0x9e3779b97f4a7c15u;
        make(&disk);
        survey_into(map, &disk);
        check_map(map, &disk);
        check_totals(map, &disk);
        check_plan(map, &disk);
        check_copy_and_diff(map, &disk);
        nbdx_map_free(map);
    }
    printf("%d disks\n", rounds);
    return 0;
}
