/* Shared by the C tests: checks that say where they failed, and a server's replies. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbd_extents.h"

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "%s:%d: %s: \"%s\"\n", __FILE__, __LINE__, #condition,      \
                    nbdx_last_error());                                                 \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

/* The call failed, and both messages have this part. */
#define FAILS(call, message, part)                                                      \
    do {                                                                                \
        CHECK((call) == -1);                                                            \
        CHECK(strstr(nbdx_last_error(), part) != NULL);                                 \
        CHECK(strcmp(nbdx_last_error(), message) == 0);                                 \
    } while (0)

/* The call returned NULL, and the thread's message has this part. */
#define MAKES_NOTHING(call, part)                                                       \
    do {                                                                                \
        CHECK((call) == NULL);                                                          \
        CHECK(strstr(nbdx_last_error(), part) != NULL);                                 \
    } while (0)

#endif
