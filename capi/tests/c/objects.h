/* One object of each kind, whole and in the middle of its work, for calls with one bad argument. */
#ifndef OBJECTS_H
#define OBJECTS_H

#include "check.h"

struct objects {
    nbdx_options *options;
    nbdx_survey *survey; /* request 1 is in flight */
    nbdx_policy *policy;
    nbdx_map *map; /* 4096 bytes */
    nbdx_plan *plan;
};

/* SPACE is memory for any argument that is read or written. UNALIGNED is an address that no argument of
 * more than a byte may have. */
static uint64_t memory[64];
#define SPACE ((void *) memory)
#define UNALIGNED ((void *) ((char *) memory + 1))

static const char *const known[] = {"base:allocation"};
static const char *const unknown[] = {"base:unknown"};

static struct objects make_objects(void)
{
    nbdx_extent extent = {0, 4096, NBDX_ZERO_KNOWN | NBDX_HOLE_KNOWN, 0, 0, 0};
    uint64_t id, offset, length;
    struct objects o;

    memset(memory, 0, sizeof memory);
    o.options = nbdx_options_new(4096);
    o.survey = nbdx_survey_new(4096, known, 1);
    o.policy = nbdx_policy_full(0);
    o.map = nbdx_map_new(0, 0);
    CHECK(nbdx_map_append(o.map, &extent, 1) == 0);
    o.plan = nbdx_plan_new(o.map, o.policy, 512);
    CHECK(nbdx_survey_next_request(o.survey, &id, &offset, &length) == 1 && id == 1);
    return o;
}

static void free_objects(struct objects o)
{
    nbdx_plan_free(o.plan);
    nbdx_map_free(o.map);
    nbdx_policy_free(o.policy);
    nbdx_survey_free(o.survey);
    nbdx_options_free(o.options);
}

/* The call fails, and the thread's message has this part. */
#define REFUSED(failed, part)                                                           \
    do {                                                                                \
        struct objects o = make_objects();                                              \
        CHECK(failed);                                                                  \
        CHECK(strstr(nbdx_last_error(), part) != NULL && *nbdx_last_error() != 0);      \
        free_objects(o);                                                                \
    } while (0)

/* The call succeeds, and leaves no message. */
#define ACCEPTED(succeeded)                                                             \
    do {                                                                                \
        struct objects o = make_objects();                                              \
        CHECK(succeeded);                                                               \
        CHECK(*nbdx_last_error() == 0);                                                 \
        free_objects(o);                                                                \
    } while (0)

/* Whether an object was made, which is freed. */
#define MADE(type, call) made_##type(call)
static int made_policy(nbdx_policy *policy)
{
    nbdx_policy_free(policy);
    return policy != NULL;
}
static int made_map(nbdx_map *map)
{
    nbdx_map_free(map);
    return map != NULL;
}

#endif
