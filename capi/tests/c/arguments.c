/* Every function of the header with one bad argument at a time. Made by tests/arguments.rs, which
 * says how to make it anew. */
#include <limits.h>

#include "objects.h"

static void nbdx_map_action_totals_(void)
{
    REFUSED(nbdx_map_action_totals(NULL, o.policy, SPACE) == -1, " is NULL");
    REFUSED(nbdx_map_action_totals(o.map, NULL, SPACE) == -1, " is NULL");
    REFUSED(nbdx_map_action_totals(o.map, o.policy, NULL) == -1, " is NULL");
    REFUSED(nbdx_map_action_totals(o.map, o.policy, UNALIGNED) == -1, "not aligned");
}

static void nbdx_map_append_(void)
{
    REFUSED(nbdx_map_append(NULL, SPACE, 1) == -1, " is NULL");
    REFUSED(nbdx_map_append(o.map, NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_map_append(o.map, UNALIGNED, 1) == -1, "not aligned");
    REFUSED(nbdx_map_append(o.map, SPACE, SIZE_MAX) == -1, "");
}

static void nbdx_map_covers_(void)
{
    REFUSED(nbdx_map_covers(NULL, 1, 1) == -1, " is NULL");
    REFUSED(nbdx_map_covers(o.map, UINT64_MAX, 1) == -1, "");
    REFUSED(nbdx_map_covers(o.map, 1, UINT64_MAX) == -1, "");
}

static void nbdx_map_get_(void)
{
    REFUSED(nbdx_map_get(NULL, 1, SPACE) == -1, " is NULL");
    ACCEPTED(nbdx_map_get(o.map, UINT64_MAX, SPACE) != -1);
    REFUSED(nbdx_map_get(o.map, 1, NULL) == -1, " is NULL");
    REFUSED(nbdx_map_get(o.map, 1, UNALIGNED) == -1, "not aligned");
}

static void nbdx_map_measure_(void)
{
    REFUSED(nbdx_map_measure(NULL, SPACE, SPACE, SPACE, SPACE) == -1, " is NULL");
    REFUSED(nbdx_map_measure(o.map, NULL, SPACE, SPACE, SPACE) == -1, " is NULL");
    REFUSED(nbdx_map_measure(o.map, UNALIGNED, SPACE, SPACE, SPACE) == -1, "not aligned");
    REFUSED(nbdx_map_measure(o.map, SPACE, NULL, SPACE, SPACE) == -1, " is NULL");
    REFUSED(nbdx_map_measure(o.map, SPACE, UNALIGNED, SPACE, SPACE) == -1, "not aligned");
    REFUSED(nbdx_map_measure(o.map, SPACE, SPACE, NULL, SPACE) == -1, " is NULL");
    REFUSED(nbdx_map_measure(o.map, SPACE, SPACE, UNALIGNED, SPACE) == -1, "not aligned");
    REFUSED(nbdx_map_measure(o.map, SPACE, SPACE, SPACE, NULL) == -1, " is NULL");
    REFUSED(nbdx_map_measure(o.map, SPACE, SPACE, SPACE, UNALIGNED) == -1, "not aligned");
}

static void nbdx_options_bitmap_first_(void)
{
    REFUSED(nbdx_options_bitmap_first(NULL) == -1, " is NULL");
}

static void nbdx_options_block_size_(void)
{
    REFUSED(nbdx_options_block_size(NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_options_block_size(o.options, UINT32_MAX) == -1, "");
}

static void nbdx_options_budget_(void)
{
    REFUSED(nbdx_options_budget(NULL, 1) == -1, " is NULL");
    ACCEPTED(nbdx_options_budget(o.options, SIZE_MAX) != -1);
}

static void nbdx_options_in_flight_(void)
{
    REFUSED(nbdx_options_in_flight(NULL, 1) == -1, " is NULL");
    ACCEPTED(nbdx_options_in_flight(o.options, SIZE_MAX) != -1);
}

static void nbdx_options_max_entries_(void)
{
    REFUSED(nbdx_options_max_entries(NULL, 1) == -1, " is NULL");
    ACCEPTED(nbdx_options_max_entries(o.options, SIZE_MAX) != -1);
}

static void nbdx_options_max_request_(void)
{
    REFUSED(nbdx_options_max_request(NULL, 1) == -1, " is NULL");
    ACCEPTED(nbdx_options_max_request(o.options, UINT64_MAX) != -1);
}

static void nbdx_options_one_extent_(void)
{
    REFUSED(nbdx_options_one_extent(NULL) == -1, " is NULL");
}

static void nbdx_options_optional_(void)
{
    REFUSED(nbdx_options_optional(NULL, known[0], 1) == -1, " is NULL");
    REFUSED(nbdx_options_optional(o.options, NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_options_optional(o.options, unknown[0], 1) == -1, "base:unknown");
    REFUSED(nbdx_options_optional(o.options, "", 1) == -1, "");
    REFUSED(nbdx_options_optional(o.options, "qemu:dirty-bitmap:\xff", 1) == -1, "not UTF-8");
    ACCEPTED(nbdx_options_optional(o.options, known[0], INT_MAX) != -1);
}

static void nbdx_options_range_(void)
{
    REFUSED(nbdx_options_range(NULL, 1, 1) == -1, " is NULL");
    REFUSED(nbdx_options_range(o.options, UINT64_MAX, 1) == -1, "");
    REFUSED(nbdx_options_range(o.options, 1, UINT64_MAX) == -1, "");
}

static void nbdx_options_require_(void)
{
    REFUSED(nbdx_options_require(NULL, known[0]) == -1, " is NULL");
    REFUSED(nbdx_options_require(o.options, NULL) == -1, " is NULL");
    REFUSED(nbdx_options_require(o.options, unknown[0]) == -1, "base:unknown");
    REFUSED(nbdx_options_require(o.options, "") == -1, "");
    REFUSED(nbdx_options_require(o.options, "qemu:dirty-bitmap:\xff") == -1, "not UTF-8");
}

static void nbdx_options_resume_(void)
{
    REFUSED(nbdx_options_resume(NULL, SPACE) == -1, " is NULL");
    REFUSED(nbdx_options_resume(o.options, NULL) == -1, " is NULL");
    REFUSED(nbdx_options_resume(o.options, UNALIGNED) == -1, "not aligned");
}

static void nbdx_options_strict_(void)
{
    REFUSED(nbdx_options_strict(NULL) == -1, " is NULL");
}

static void nbdx_options_writable_(void)
{
    REFUSED(nbdx_options_writable(NULL) == -1, " is NULL");
}

static void nbdx_plan_dirty_only_(void)
{
    REFUSED(nbdx_plan_dirty_only(NULL) == -1, " is NULL");
}

static void nbdx_plan_join_gaps_(void)
{
    REFUSED(nbdx_plan_join_gaps(NULL, 1) == -1, " is NULL");
    ACCEPTED(nbdx_plan_join_gaps(o.plan, UINT64_MAX) != -1);
}

static void nbdx_plan_max_copy_(void)
{
    REFUSED(nbdx_plan_max_copy(NULL, 1) == -1, " is NULL");
    ACCEPTED(nbdx_plan_max_copy(o.plan, UINT64_MAX) != -1);
}

static void nbdx_plan_max_zero_(void)
{
    REFUSED(nbdx_plan_max_zero(NULL, 1) == -1, " is NULL");
    ACCEPTED(nbdx_plan_max_zero(o.plan, UINT64_MAX) != -1);
}

static void nbdx_plan_position_(void)
{
    REFUSED(nbdx_plan_position(NULL, SPACE, SPACE) == -1, " is NULL");
    REFUSED(nbdx_plan_position(o.plan, NULL, SPACE) == -1, " is NULL");
    REFUSED(nbdx_plan_position(o.plan, UNALIGNED, SPACE) == -1, "not aligned");
    REFUSED(nbdx_plan_position(o.plan, SPACE, NULL) == -1, " is NULL");
    REFUSED(nbdx_plan_position(o.plan, SPACE, UNALIGNED) == -1, "not aligned");
}

static void nbdx_plan_resume_(void)
{
    REFUSED(nbdx_plan_resume(NULL, 1, 1) == -1, " is NULL");
    REFUSED(nbdx_plan_resume(o.plan, UINT64_MAX, 1) == -1, "");
    REFUSED(nbdx_plan_resume(o.plan, 1, UINT64_MAX) == -1, "");
}

static void nbdx_plan_totals_(void)
{
    REFUSED(nbdx_plan_totals(NULL, SPACE) == -1, " is NULL");
    REFUSED(nbdx_plan_totals(o.plan, NULL) == -1, " is NULL");
    REFUSED(nbdx_plan_totals(o.plan, UNALIGNED) == -1, "not aligned");
}

static void nbdx_policy_zeroes_(void)
{
    REFUSED(nbdx_policy_zeroes(NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_policy_zeroes(o.policy, INT_MAX) == -1, "");
}

static void nbdx_survey_bitmaps_(void)
{
    REFUSED(nbdx_survey_bitmaps(NULL, SPACE) == -1, " is NULL");
    REFUSED(nbdx_survey_bitmaps(o.survey, NULL) == -1, " is NULL");
    REFUSED(nbdx_survey_bitmaps(o.survey, UNALIGNED) == -1, "not aligned");
}

static void nbdx_survey_complete_(void)
{
    REFUSED(nbdx_survey_complete(NULL) == -1, " is NULL");
}

static void nbdx_survey_extents32_(void)
{
    REFUSED(nbdx_survey_extents32(NULL, 1, known[0], 1, SPACE, 2) == -1, " is NULL");
    REFUSED(nbdx_survey_extents32(o.survey, UINT64_MAX, known[0], 1, SPACE, 2) == -1, "");
    REFUSED(nbdx_survey_extents32(o.survey, 1, NULL, 1, SPACE, 2) == -1, " is NULL");
    REFUSED(nbdx_survey_extents32(o.survey, 1, unknown[0], 1, SPACE, 2) == -1, "base:unknown");
    REFUSED(nbdx_survey_extents32(o.survey, 1, "", 1, SPACE, 2) == -1, "");
    REFUSED(nbdx_survey_extents32(o.survey, 1, "qemu:dirty-bitmap:\xff", 1, SPACE, 2) == -1, "not UTF-8");
    REFUSED(nbdx_survey_extents32(o.survey, 1, known[0], UINT64_MAX, SPACE, 2) == -1, "");
    REFUSED(nbdx_survey_extents32(o.survey, 1, known[0], 1, NULL, 2) == -1, " is NULL");
    REFUSED(nbdx_survey_extents32(o.survey, 1, known[0], 1, UNALIGNED, 2) == -1, "not aligned");
    REFUSED(nbdx_survey_extents32(o.survey, 1, known[0], 1, SPACE, SIZE_MAX) == -1, "");
}

static void nbdx_survey_extents64_(void)
{
    REFUSED(nbdx_survey_extents64(NULL, 1, known[0], 1, SPACE, 2) == -1, " is NULL");
    REFUSED(nbdx_survey_extents64(o.survey, UINT64_MAX, known[0], 1, SPACE, 2) == -1, "");
    REFUSED(nbdx_survey_extents64(o.survey, 1, NULL, 1, SPACE, 2) == -1, " is NULL");
    REFUSED(nbdx_survey_extents64(o.survey, 1, unknown[0], 1, SPACE, 2) == -1, "base:unknown");
    REFUSED(nbdx_survey_extents64(o.survey, 1, "", 1, SPACE, 2) == -1, "");
    REFUSED(nbdx_survey_extents64(o.survey, 1, "qemu:dirty-bitmap:\xff", 1, SPACE, 2) == -1, "not UTF-8");
    REFUSED(nbdx_survey_extents64(o.survey, 1, known[0], UINT64_MAX, SPACE, 2) == -1, "");
    REFUSED(nbdx_survey_extents64(o.survey, 1, known[0], 1, NULL, 2) == -1, " is NULL");
    REFUSED(nbdx_survey_extents64(o.survey, 1, known[0], 1, UNALIGNED, 2) == -1, "not aligned");
    REFUSED(nbdx_survey_extents64(o.survey, 1, known[0], 1, SPACE, SIZE_MAX) == -1, "");
}

static void nbdx_survey_next_request_(void)
{
    REFUSED(nbdx_survey_next_request(NULL, SPACE, SPACE, SPACE) == -1, " is NULL");
    REFUSED(nbdx_survey_next_request(o.survey, NULL, SPACE, SPACE) == -1, " is NULL");
    REFUSED(nbdx_survey_next_request(o.survey, UNALIGNED, SPACE, SPACE) == -1, "not aligned");
    REFUSED(nbdx_survey_next_request(o.survey, SPACE, NULL, SPACE) == -1, " is NULL");
    REFUSED(nbdx_survey_next_request(o.survey, SPACE, UNALIGNED, SPACE) == -1, "not aligned");
    REFUSED(nbdx_survey_next_request(o.survey, SPACE, SPACE, NULL) == -1, " is NULL");
    REFUSED(nbdx_survey_next_request(o.survey, SPACE, SPACE, UNALIGNED) == -1, "not aligned");
}

static void nbdx_survey_reply_done_(void)
{
    REFUSED(nbdx_survey_reply_done(NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_survey_reply_done(o.survey, UINT64_MAX) == -1, "");
}

static void nbdx_survey_reply_failed_(void)
{
    REFUSED(nbdx_survey_reply_failed(NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_survey_reply_failed(o.survey, UINT64_MAX) == -1, "");
}

static void nbdx_survey_request_topic_(void)
{
    REFUSED(nbdx_survey_request_topic(NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_survey_request_topic(o.survey, UINT64_MAX) == -1, "");
}

static void nbdx_survey_resume_point_(void)
{
    REFUSED(nbdx_survey_resume_point(NULL, SPACE) == -1, " is NULL");
    REFUSED(nbdx_survey_resume_point(o.survey, NULL) == -1, " is NULL");
    REFUSED(nbdx_survey_resume_point(o.survey, UNALIGNED) == -1, "not aligned");
}

static void nbdx_survey_stats_(void)
{
    REFUSED(nbdx_survey_stats(NULL, SPACE) == -1, " is NULL");
    REFUSED(nbdx_survey_stats(o.survey, NULL) == -1, " is NULL");
    REFUSED(nbdx_survey_stats(o.survey, UNALIGNED) == -1, "not aligned");
}

static void nbdx_map_new_(void)
{
    REFUSED(nbdx_map_new(UINT64_MAX, 1) == NULL, "");
    ACCEPTED(MADE(map, nbdx_map_new(1, UINT32_MAX)));
}

static void nbdx_options_new_(void)
{
    REFUSED(nbdx_options_new(UINT64_MAX) == NULL, "");
}

static void nbdx_plan_new_(void)
{
    REFUSED(nbdx_plan_new(NULL, o.policy, 1) == NULL, " is NULL");
    REFUSED(nbdx_plan_new(o.map, NULL, 1) == NULL, " is NULL");
    REFUSED(nbdx_plan_new(o.map, o.policy, UINT64_MAX) == NULL, "");
}

static void nbdx_policy_full_(void)
{
    ACCEPTED(MADE(policy, nbdx_policy_full(INT_MAX)));
}

static void nbdx_policy_incremental_(void)
{
    REFUSED(nbdx_policy_incremental(UINT64_MAX, 1, 1, 1) == NULL, "");
    REFUSED(nbdx_policy_incremental(1, UINT64_MAX, 1, 1) == NULL, "");
    ACCEPTED(MADE(policy, nbdx_policy_incremental(1, 1, UINT32_MAX, 1)));
    ACCEPTED(MADE(policy, nbdx_policy_incremental(1, 1, 1, INT_MAX)));
}

static void nbdx_survey_new_(void)
{
    REFUSED(nbdx_survey_new(UINT64_MAX, SPACE, 1) == NULL, "");
    REFUSED(nbdx_survey_new(1, NULL, 1) == NULL, " is NULL");
    REFUSED(nbdx_survey_new(1, UNALIGNED, 1) == NULL, "not aligned");
    REFUSED(nbdx_survey_new(1, SPACE, SIZE_MAX) == NULL, "");
}

static void nbdx_survey_with_options_(void)
{
    REFUSED(nbdx_survey_with_options(NULL) == NULL, " is NULL");
}

static void nbdx_map_actions_(void)
{
    REFUSED(nbdx_map_actions(NULL, o.policy, 1, SPACE, 1) == -1, " is NULL");
    REFUSED(nbdx_map_actions(o.map, NULL, 1, SPACE, 1) == -1, " is NULL");
    ACCEPTED(nbdx_map_actions(o.map, o.policy, UINT64_MAX, SPACE, 1) != -1);
    REFUSED(nbdx_map_actions(o.map, o.policy, 1, NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_map_actions(o.map, o.policy, 1, UNALIGNED, 1) == -1, "not aligned");
    REFUSED(nbdx_map_actions(o.map, o.policy, 1, SPACE, SIZE_MAX) == -1, "");
}

static void nbdx_map_diff_(void)
{
    REFUSED(nbdx_map_diff(NULL, o.map, 1, SPACE, 1) == -1, " is NULL");
    REFUSED(nbdx_map_diff(o.map, NULL, 1, SPACE, 1) == -1, " is NULL");
    ACCEPTED(nbdx_map_diff(o.map, o.map, UINT64_MAX, SPACE, 1) != -1);
    REFUSED(nbdx_map_diff(o.map, o.map, 1, NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_map_diff(o.map, o.map, 1, UNALIGNED, 1) == -1, "not aligned");
    REFUSED(nbdx_map_diff(o.map, o.map, 1, SPACE, SIZE_MAX) == -1, "");
}

static void nbdx_map_read_(void)
{
    REFUSED(nbdx_map_read(NULL, 1, SPACE, 1) == -1, " is NULL");
    ACCEPTED(nbdx_map_read(o.map, UINT64_MAX, SPACE, 1) != -1);
    REFUSED(nbdx_map_read(o.map, 1, NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_map_read(o.map, 1, UNALIGNED, 1) == -1, "not aligned");
    REFUSED(nbdx_map_read(o.map, 1, SPACE, SIZE_MAX) == -1, "");
}

static void nbdx_map_read_survey_(void)
{
    REFUSED(nbdx_map_read_survey(NULL, o.survey) == -1, " is NULL");
    REFUSED(nbdx_map_read_survey(o.map, NULL) == -1, " is NULL");
}

static void nbdx_map_totals_(void)
{
    REFUSED(nbdx_map_totals(NULL, SPACE, 1) == -1, " is NULL");
    REFUSED(nbdx_map_totals(o.map, NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_map_totals(o.map, UNALIGNED, 1) == -1, "not aligned");
    REFUSED(nbdx_map_totals(o.map, SPACE, SIZE_MAX) == -1, "");
}

static void nbdx_plan_read_(void)
{
    REFUSED(nbdx_plan_read(NULL, SPACE, 1) == -1, " is NULL");
    REFUSED(nbdx_plan_read(o.plan, NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_plan_read(o.plan, UNALIGNED, 1) == -1, "not aligned");
    REFUSED(nbdx_plan_read(o.plan, SPACE, SIZE_MAX) == -1, "");
}

static void nbdx_survey_forgiven_(void)
{
    REFUSED(nbdx_survey_forgiven(NULL, SPACE, 1) == -1, " is NULL");
    REFUSED(nbdx_survey_forgiven(o.survey, NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_survey_forgiven(o.survey, UNALIGNED, 1) == -1, "not aligned");
    REFUSED(nbdx_survey_forgiven(o.survey, SPACE, SIZE_MAX) == -1, "");
}

static void nbdx_survey_read_(void)
{
    REFUSED(nbdx_survey_read(NULL, SPACE, 1) == -1, " is NULL");
    REFUSED(nbdx_survey_read(o.survey, NULL, 1) == -1, " is NULL");
    REFUSED(nbdx_survey_read(o.survey, UNALIGNED, 1) == -1, "not aligned");
    REFUSED(nbdx_survey_read(o.survey, SPACE, SIZE_MAX) == -1, "");
}

int main(void)
{
    nbdx_map_action_totals_();
    nbdx_map_append_();
    nbdx_map_covers_();
    nbdx_map_get_();
    nbdx_map_measure_();
    nbdx_options_bitmap_first_();
    nbdx_options_block_size_();
    nbdx_options_budget_();
    nbdx_options_in_flight_();
    nbdx_options_max_entries_();
    nbdx_options_max_request_();
    nbdx_options_one_extent_();
    nbdx_options_optional_();
    nbdx_options_range_();
    nbdx_options_require_();
    nbdx_options_resume_();
    nbdx_options_strict_();
    nbdx_options_writable_();
    nbdx_plan_dirty_only_();
    nbdx_plan_join_gaps_();
    nbdx_plan_max_copy_();
    nbdx_plan_max_zero_();
    nbdx_plan_position_();
    nbdx_plan_resume_();
    nbdx_plan_totals_();
    nbdx_policy_zeroes_();
    nbdx_survey_bitmaps_();
    nbdx_survey_complete_();
    nbdx_survey_extents32_();
    nbdx_survey_extents64_();
    nbdx_survey_next_request_();
    nbdx_survey_reply_done_();
    nbdx_survey_reply_failed_();
    nbdx_survey_request_topic_();
    nbdx_survey_resume_point_();
    nbdx_survey_stats_();
    nbdx_map_new_();
    nbdx_options_new_();
    nbdx_plan_new_();
    nbdx_policy_full_();
    nbdx_policy_incremental_();
    nbdx_survey_new_();
    nbdx_survey_with_options_();
    nbdx_map_actions_();
    nbdx_map_diff_();
    nbdx_map_read_();
    nbdx_map_read_survey_();
    nbdx_map_totals_();
    nbdx_plan_read_();
    nbdx_survey_forgiven_();
    nbdx_survey_read_();
    return 0;
}
