/* Whatever a caller gets wrong is an error with a message, never a crash: NULL, the wrong order, an
 * unknown name or id, counts that cannot be. Run under valgrind and AddressSanitizer as well. */
#include "check.h"

static const char *contexts[] = {"base:allocation", "qemu:dirty-bitmap:b0"};

static void surveys_that_cannot_be(void)
{
    const char *unknown[] = {"base:allocation", "x:y"};
    const char *twice[] = {"base:allocation", "base:allocation"};
    const char *null[] = {"base:allocation", NULL};
    const char *not_utf8[] = {"qemu:dirty-bitmap:\xff"};
    const char *unnamed[] = {"qemu:dirty-bitmap:"};

    MAKES_NOTHING(nbdx_survey_new(4096, NULL, 1), "contexts is NULL");
    MAKES_NOTHING(nbdx_survey_new(4096, NULL, 0), "at least one context");
    MAKES_NOTHING(nbdx_survey_new(4096, contexts, SIZE_MAX), "more than the 34");
    MAKES_NOTHING(nbdx_survey_new(4096, contexts, 35), "35 contexts are more than the 34");
    MAKES_NOTHING(nbdx_survey_new(4096, unknown, 2), "x:y");
    MAKES_NOTHING(nbdx_survey_new(4096, twice, 2), "named twice");
    MAKES_NOTHING(nbdx_survey_new(4096, null, 2), "a context is NULL");
    MAKES_NOTHING(nbdx_survey_new(4096, not_utf8, 1), "not UTF-8");
    MAKES_NOTHING(nbdx_survey_new(4096, unnamed, 1), "not the name");
    MAKES_NOTHING(nbdx_survey_new(UINT64_MAX, contexts, 2), "18446744073709551615");
    MAKES_NOTHING(nbdx_survey_with_options(NULL), "options is NULL");
}

static void null_everywhere(void)
{
    uint64_t n;
    uint32_t entries[2] = {4096, 0};
    nbdx_survey *survey = nbdx_survey_new(4096, contexts, 2);
    CHECK(survey != NULL);

    FAILS(nbdx_survey_next_request(NULL, &n, &n, &n), "survey is NULL", "survey is NULL");
    FAILS(nbdx_survey_next_request(survey, NULL, &n, &n), nbdx_survey_error(survey), "id is NULL");
    FAILS(nbdx_survey_next_request(survey, &n, NULL, &n), nbdx_survey_error(survey), "offset is NULL");
    FAILS(nbdx_survey_next_request(survey, &n, &n, NULL), nbdx_survey_error(survey), "length is NULL");
    /* none of these took the request away */
    CHECK(nbdx_survey_next_request(survey, &n, &n, &n) == 1);
    FAILS(nbdx_survey_extents32(NULL, 1, contexts[0], 0, entries, 2), "survey is NULL", "NULL");
    FAILS(nbdx_survey_extents32(survey, 1, NULL, 0, entries, 2), nbdx_survey_error(survey),
          "context is NULL");
    FAILS(nbdx_survey_extents32(survey, 1, contexts[0], 0, NULL, 2), nbdx_survey_error(survey),
          "entries is NULL");
    FAILS(nbdx_survey_extents64(survey, 1, contexts[0], 0, NULL, 1), nbdx_survey_error(survey),
          "entries is NULL");
    FAILS(nbdx_survey_read(survey, NULL, 1), nbdx_survey_error(survey), "out is NULL");
    FAILS(nbdx_survey_read(NULL, NULL, 1), "survey is NULL", "NULL");
    FAILS(nbdx_survey_complete(NULL), "survey is NULL", "NULL");
    FAILS(nbdx_survey_reply_done(NULL, 1), "survey is NULL", "NULL");
    FAILS(nbdx_survey_reply_failed(NULL, 1), "survey is NULL", "NULL");
    FAILS(nbdx_survey_stats(survey, NULL), nbdx_survey_error(survey), "stats is NULL");
    FAILS(nbdx_survey_resume_point(survey, NULL), nbdx_survey_error(survey), "point is NULL");
    FAILS(nbdx_survey_bitmaps(survey, NULL), nbdx_survey_error(survey), "bitmaps is NULL");
    FAILS(nbdx_survey_forgiven(survey, NULL, 4), nbdx_survey_error(survey), "out is NULL");
    CHECK(nbdx_survey_forgiven(survey, NULL, 0) == 0);
    CHECK(strcmp(nbdx_survey_error(NULL), "the object is NULL") == 0);
    nbdx_survey_free(survey);
    nbdx_survey_free(NULL);

    MAKES_NOTHING(nbdx_plan_new(NULL, NULL, 512), "map is NULL");
    FAILS(nbdx_map_read_survey(NULL, NULL), "map is NULL", "map is NULL");
    FAILS(nbdx_policy_zeroes(NULL, 0), "policy is NULL", "policy is NULL");
    FAILS(nbdx_plan_read(NULL, NULL, 1), "plan is NULL", "plan is NULL");
    FAILS(nbdx_options_require(NULL, "base:allocation"), "options is NULL", "options is NULL");
}

static void wrong_order_and_wrong_numbers(void)
{
    uint64_t id, offset, length;
    uint32_t entries[4] = {4096, 0, 4096, 1};
    nbdx_entry wide[1] = {{4096, 0}};
    nbdx_extent extents[4];
    char unaligned[64];
    nbdx_survey *survey = nbdx_survey_new(8192, contexts, 2);

    /* answers before any request */
    FAILS(nbdx_survey_reply_done(survey, 1), nbdx_survey_error(survey), "request 1 is not outstanding");
    FAILS(nbdx_survey_reply_failed(survey, 1), nbdx_survey_error(survey), "request 1 is not outstanding");
    FAILS(nbdx_survey_request_topic(survey, 1), nbdx_survey_error(survey), "request 1 is not outstanding");
    FAILS(nbdx_survey_extents64(survey, 1, contexts[0], 0, wide, 1), nbdx_survey_error(survey),
          "request 1 is not outstanding");
    FAILS(nbdx_survey_extents32(survey, 7, contexts[0], 0, entries, 4), nbdx_survey_error(survey),
          "request 7 is not outstanding");
    FAILS(nbdx_survey_complete(survey), nbdx_survey_error(survey), "up to 0 of 8192");
    CHECK(nbdx_survey_read(survey, extents, 4) == 0);
    CHECK(strcmp(nbdx_survey_error(survey), "") == 0);
    FAILS(nbdx_survey_read(survey, extents, 0), nbdx_survey_error(survey), "capacity is 0");

    CHECK(nbdx_survey_next_request(survey, &id, &offset, &length) == 1);
    CHECK(offset == 0 && length == 8192);
    CHECK(nbdx_survey_request_topic(survey, id) == NBDX_TOPIC_ALL);
    FAILS(nbdx_survey_request_topic(survey, 99), nbdx_survey_error(survey), "request 99");
    FAILS(nbdx_survey_extents32(survey, id, "base:alloc", 0, entries, 4), nbdx_survey_error(survey),
          "does not ask about the context base:alloc");
    FAILS(nbdx_survey_extents32(survey, id, contexts[0], 4096, entries, 4), nbdx_survey_error(survey),
          "4096");
    /* counts without memory to match: refused before they are read */
    FAILS(nbdx_survey_extents32(survey, id, contexts[0], 0, entries, SIZE_MAX), nbdx_survey_error(survey),
          "more than the 1048576");
    FAILS(nbdx_survey_extents64(survey, id, contexts[0], 0, wide, SIZE_MAX), nbdx_survey_error(survey),
          "more than the 1048576");
    FAILS(nbdx_survey_extents64(survey, id, contexts[0], 0, wide, (size_t) 1 << 60),
          nbdx_survey_error(survey), "more than the 1048576");
    FAILS(nbdx_survey_extents32(survey, id, contexts[0], 0,
                                (uint32_t *) (void *) (unaligned + 1 + ((uintptr_t) unaligned & 1)), 2),
          nbdx_survey_error(survey), "not aligned");

    /* all of that left the request as it was */
    CHECK(nbdx_survey_extents32(survey, id, contexts[0], 0, entries, 4) == 0);
    FAILS(nbdx_survey_extents32(survey, id, contexts[0], 0, entries, 4), nbdx_survey_error(survey),
          "two chunks");
    /* that broke it: later calls say so, and end it */
    FAILS(nbdx_survey_extents32(survey, id, contexts[1], 0, entries, 4), nbdx_survey_error(survey),
          "request 1 is over");
    CHECK(nbdx_survey_reply_failed(survey, id) == 0);
    FAILS(nbdx_survey_reply_failed(survey, id), nbdx_survey_error(survey), "not outstanding");
    FAILS(nbdx_survey_reply_done(survey, id), nbdx_survey_error(survey), "not outstanding");
    FAILS(nbdx_survey_extents64(survey, id, contexts[0], 0, wide, 1), nbdx_survey_error(survey),
          "not outstanding");
    FAILS(nbdx_survey_request_topic(survey, id), nbdx_survey_error(survey), "not outstanding");

    CHECK(nbdx_survey_next_request(survey, &id, &offset, &length) == 1);
    CHECK(offset == 0 && id == 2);
    FAILS(nbdx_survey_extents32(survey, id, contexts[0], 0, entries, 3), nbdx_survey_error(survey), "3");
    FAILS(nbdx_survey_reply_done(survey, id), nbdx_survey_error(survey), "request 2 failed");
    CHECK(nbdx_survey_next_request(survey, &id, &offset, &length) == 1);
    CHECK(nbdx_survey_extents32(survey, id, contexts[0], 0, entries, 4) == 0);
    FAILS(nbdx_survey_reply_done(survey, id), nbdx_survey_error(survey), "no status for");
    CHECK(nbdx_survey_read(survey, extents, 4) == 0);
    nbdx_survey_free(survey);
}

/* A caller that never ends requests whose reply was refused does not make the survey grow for ever, and
 * one whose requests always fail is told to give up. */
static void for_ever(void)
{
    uint64_t id, offset, length;
    uint32_t entries[2] = {0, 0};
    int round, ended = 0;
    nbdx_survey *survey = nbdx_survey_new(8192, contexts, 2);

    for (round = 0; round < 100000 && !ended; round++) {
        ended = nbdx_survey_next_request(survey, &id, &offset, &length) != 1;
        if (!ended)
            CHECK(nbdx_survey_extents32(survey, id, contexts[0], 0, entries, 1) == -1);
    }
    CHECK(ended);
    nbdx_survey_free(survey);

    survey = nbdx_survey_new(8192, contexts, 2);
    for (round = 0, ended = 0; round < 100000 && !ended; round++) {
        ended = nbdx_survey_next_request(survey, &id, &offset, &length) != 1
                || nbdx_survey_reply_failed(survey, id) != 0;
    }
    CHECK(round < 100);
    FAILS(nbdx_survey_complete(survey), nbdx_survey_error(survey), "0");
    nbdx_survey_free(survey);
}

static void options(void)
{
    nbdx_resume_point point = {0, 8192, 4096};
    nbdx_options *options = nbdx_options_new(4096);

    MAKES_NOTHING(nbdx_options_new(UINT64_MAX), "larger than");
    FAILS(nbdx_options_block_size(options, 3000), nbdx_options_error(options), "3000");
    FAILS(nbdx_options_block_size(options, 0), nbdx_options_error(options), "0 bytes");
    FAILS(nbdx_options_range(options, 1, UINT64_MAX), nbdx_options_error(options), "64 bits");
    FAILS(nbdx_options_range(options, 0, 4097), nbdx_options_error(options), "0..4097");
    FAILS(nbdx_options_resume(options, NULL), nbdx_options_error(options), "point is NULL");
    FAILS(nbdx_options_resume(options, &point), nbdx_options_error(options), "8192");
    point.export_size = 8192;
    FAILS(nbdx_options_resume(options, &point), nbdx_options_error(options), "4096");
    FAILS(nbdx_options_require(options, ""), nbdx_options_error(options), "");
    CHECK(nbdx_options_require(options, "base:allocation") == 0);
    FAILS(nbdx_options_optional(options, "base:allocation", 1), nbdx_options_error(options), "twice");
    CHECK(nbdx_options_bitmap_first(options) == 0);
    MAKES_NOTHING(nbdx_survey_with_options(options), "bitmap first");
    nbdx_options_free(options);
}

static void maps_policies_and_plans(void)
{
    uint64_t n;
    nbdx_extent extent = {0, 4096, NBDX_ZERO_KNOWN | NBDX_HOLE_KNOWN, 0, 0, 0};
    nbdx_extent wrong[7];
    nbdx_action steps[2];
    nbdx_map *map = nbdx_map_new(0, 0);
    nbdx_policy *full = nbdx_policy_full(0);
    nbdx_policy *layer = nbdx_policy_single_layer();
    nbdx_plan *plan;
    size_t i;

    MAKES_NOTHING(nbdx_map_new(UINT64_MAX, 0), "cannot start");
    for (i = 0; i < 7; i++)
        wrong[i] = extent;
    wrong[0].length = 0;
    wrong[1].start = 512;
    wrong[2].length = UINT64_MAX;
    wrong[3].flags |= 1u << 31;
    wrong[4].flags = NBDX_ZERO;
    wrong[5].bitmaps = 1;
    wrong[6].depth = 1;
    for (i = 0; i < 7; i++)
        CHECK(nbdx_map_append(map, &wrong[i], 1) == -1 && *nbdx_map_error(map) != 0);
    FAILS(nbdx_map_append(map, NULL, 1), nbdx_map_error(map), "extents is NULL");
    FAILS(nbdx_map_append(map, &extent, SIZE_MAX), nbdx_map_error(map), "do not fit in memory");
    CHECK(nbdx_map_append(map, NULL, 0) == 0);
    CHECK(nbdx_map_append(map, &extent, 1) == 0);
    FAILS(nbdx_map_append(map, &extent, 1), nbdx_map_error(map), "4096");
    CHECK(nbdx_map_covers(map, 0, 4096) == 0);
    FAILS(nbdx_map_covers(map, 0, 4097), nbdx_map_error(map), "4096..4097");
    CHECK(nbdx_map_covers(map, 9, 3) == -1);
    CHECK(nbdx_map_get(map, UINT64_MAX, &extent) == 0);
    FAILS(nbdx_map_read(map, 0, &extent, 0), nbdx_map_error(map), "capacity is 0");
    CHECK(nbdx_map_read(map, UINT64_MAX, &extent, 1) == 0);
    FAILS(nbdx_map_actions(map, NULL, 0, steps, 2), nbdx_map_error(map), "policy is NULL");
    FAILS(nbdx_map_actions(map, layer, 0, steps, 2), nbdx_map_error(map), "depth");
    FAILS(nbdx_map_diff(map, NULL, 0, NULL, 0), nbdx_map_error(map), "map is NULL");
    FAILS(nbdx_map_measure(map, &n, &n, &n, NULL), nbdx_map_error(map), "memory is NULL");

    MAKES_NOTHING(nbdx_policy_incremental(4096, 4096, 0, 0), "bitmap");
    MAKES_NOTHING(nbdx_policy_incremental(4096, 8192, 1, 0), "8192");
    MAKES_NOTHING(nbdx_policy_incremental(8192, 4096, 1, 1), "4096");
    FAILS(nbdx_policy_zeroes(full, 9), nbdx_policy_error(full), "9 is no way");

    MAKES_NOTHING(nbdx_plan_new(map, full, 3000), "power of two");
    plan = nbdx_plan_new(map, full, 512);
    FAILS(nbdx_plan_max_copy(plan, 100), nbdx_plan_error(plan), "cannot hold a block");
    FAILS(nbdx_plan_resume(plan, 0, 8192), nbdx_plan_error(plan), "8192");
    FAILS(nbdx_plan_position(plan, &n, &n), nbdx_plan_error(plan), "no step");
    /* a plan owns its share of the map and policy */
    nbdx_map_free(map);
    nbdx_policy_free(full);
    CHECK(nbdx_plan_read(plan, steps, 2) == 1);
    CHECK(steps[0].start == 0 && steps[0].length == 4096 && steps[0].action == NBDX_COPY);
    /* too late to change anything */
    FAILS(nbdx_plan_max_copy(plan, 4096), nbdx_plan_error(plan), "after its first step");
    FAILS(nbdx_plan_max_zero(plan, 4096), nbdx_plan_error(plan), "after its first step");
    FAILS(nbdx_plan_join_gaps(plan, 4096), nbdx_plan_error(plan), "after its first step");
    FAILS(nbdx_plan_dirty_only(plan), nbdx_plan_error(plan), "after its first step");
    FAILS(nbdx_plan_resume(plan, 0, 4096), nbdx_plan_error(plan), "after its first step");
    CHECK(nbdx_plan_read(plan, steps, 2) == 0);
    nbdx_plan_free(plan);
    nbdx_policy_free(layer);
}

/* Steps before an error reach the caller: the position of the plan is after them. */
static void a_plan_that_fails(void)
{
    const uint32_t data = NBDX_ZERO_KNOWN | NBDX_HOLE_KNOWN, known = NBDX_DEPTH_KNOWN;
    const nbdx_extent extents[] = {
        {0, 4096, data | known, 1, 0, 0},
        {4096, 4096, data | NBDX_ZERO | known, 1, 0, 0},
        {8192, 4096, data | known, 1, 0, 0},
        {12288, 4096, data, 0, 0, 0}, /* the layer that holds it is unknown */
    };
    nbdx_action steps[8];
    uint64_t offset = 0, size = 0;
    nbdx_map *map = nbdx_map_new(0, 0);
    nbdx_policy *layer = nbdx_policy_single_layer();
    nbdx_plan *plan;

    CHECK(nbdx_map_append(map, extents, 4) == 0);
    plan = nbdx_plan_new(map, layer, 512);
    CHECK(nbdx_plan_read(plan, steps, 0) == -1);
    CHECK(nbdx_plan_max_zero(plan, 8192) == 0); /* nothing has been read yet */
    CHECK(nbdx_plan_read(plan, steps, 8) == 1);
    CHECK(steps[0].start == 0 && steps[0].length == 4096 && steps[0].action == NBDX_COPY);
    /* the error is not forgotten: no call says that the plan came to its end */
    FAILS(nbdx_plan_read(plan, steps, 8), nbdx_plan_error(plan), "bytes 12288..16384");
    FAILS(nbdx_plan_read(plan, steps, 8), nbdx_plan_error(plan), "bytes 12288..16384");
    CHECK(nbdx_plan_position(plan, &offset, &size) == 0);
    CHECK(offset == 4096 && size == 16384);
    nbdx_plan_free(plan);
    nbdx_policy_free(layer);
    nbdx_map_free(map);
}

/* The survey's extents begin at byte 0, and the map at byte 512: the map refuses them all, and they can
 * still be read from the survey. */
static void a_map_elsewhere(void)
{
    const uint32_t entries[] = {4096, 1};
    uint64_t id, offset, length;
    nbdx_resume_point point;
    nbdx_extent extent;
    nbdx_survey *survey = nbdx_survey_new(4096, contexts, 2);
    nbdx_map *map = nbdx_map_new(512, 1);

    CHECK(nbdx_survey_next_request(survey, &id, &offset, &length) == 1);
    CHECK(nbdx_survey_extents32(survey, id, contexts[0], 0, entries, 2) == 0);
    CHECK(nbdx_survey_extents32(survey, id, contexts[1], 0, entries, 2) == 0);
    CHECK(nbdx_survey_reply_done(survey, id) == 0);
    FAILS(nbdx_map_read_survey(map, survey), nbdx_map_error(map), "byte 0");
    CHECK(nbdx_survey_resume_point(survey, &point) == 0 && point.offset == 0);
    CHECK(nbdx_survey_complete(survey) == -1);
    CHECK(nbdx_survey_read(survey, &extent, 1) == 1 && extent.length == 4096);
    CHECK(nbdx_survey_complete(survey) == 0);
    nbdx_map_free(map);
    nbdx_survey_free(survey);
}

int main(void)
{
    CHECK(strcmp(nbdx_last_error(), "") == 0);
    surveys_that_cannot_be();
    null_everywhere();
    wrong_order_and_wrong_numbers();
    for_ever();
    options();
    maps_policies_and_plans();
    a_plan_that_fails();
    a_map_elsewhere();
    return 0;
}
