// Ceph's migration from NBD (librbd, NBDStream) lists the parts of a range that read as zeroes. Here its
// callback and its loop stand beside the replacement of DROP-IN.md, on one scripted server, so that the
// difference shows: a hole that is not said to be zero has undefined content and must be copied. The
// code is ours, of the shape of theirs.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "nbd_extents.h"

#define CHECK(condition)                                                                         \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: \"%s\"\n", __FILE__, __LINE__, #condition,          \
                         nbdx_last_error());                                                     \
            std::exit(1);                                                                        \
        }                                                                                        \
    } while (0)

enum : uint32_t { HOLE = 1, ZERO = 2 };
using Callback = int (*)(void *, const char *, uint64_t, uint32_t *, size_t, int *);

// The zeroed ranges of an image, by their start: where io::SparseExtents would be filled.
using Zeroed = std::map<uint64_t, uint64_t>;

// A server of libnbd's shape: it answers at most three extents at a time, as servers may.
struct Server {
    std::vector<std::pair<uint32_t, uint32_t>> disk;

    int block_status(uint64_t count, uint64_t offset, Callback callback, void *user) const
    {
        std::vector<uint32_t> entries;
        uint64_t position = 0;
        for (auto [length, flags] : disk) {
            const uint64_t end = position + length, from = std::max(position, offset);
            if (from < end && from < offset + count && entries.size() < 6) {
                entries.push_back(static_cast<uint32_t>(end - from));
                entries.push_back(flags);
            }
            position = end;
        }
        int error = 0;
        return callback(user, "base:allocation", offset, entries.data(), entries.size(), &error) < 0 ? -1 : 0;
    }

    uint64_t size() const
    {
        uint64_t sum = 0;
        for (auto [length, flags] : disk)
            sum += length;
        return sum;
    }
};

// As it is done today: HOLE or ZERO counts as zeroed, and one reply is all that is asked for.
namespace today {
int extent_cb(void *user, const char *, uint64_t offset, uint32_t *entries, size_t nr_entries, int *)
{
    for (size_t i = 0; i < nr_entries; i += 2) {
        if (entries[i + 1] & (HOLE | ZERO))
            (*static_cast<Zeroed *>(user))[offset] = entries[i];
        offset += entries[i];
    }
    return 1;
}

Zeroed list(const Server &server, uint64_t offset, uint64_t length)
{
    Zeroed zeroed;
    server.block_status(length, offset, extent_cb, &zeroed);
    return zeroed;
}
}

// The replacement.
namespace dropin {
struct Reply {
    nbdx_survey *survey;
    uint64_t id;
};

int extent_cb(void *user, const char *context, uint64_t offset, uint32_t *entries, size_t nr, int *)
{
    auto reply = static_cast<Reply *>(user);
    return nbdx_survey_extents32(reply->survey, reply->id, context, offset, entries, nr);
}

int list(const Server &server, nbdx_survey *survey, const std::function<void(uint64_t, uint64_t)> &zeroed)
{
    Reply reply{survey, 0};
    nbdx_extent extents[512];
    uint64_t offset, length;
    ssize_t count;

    while (nbdx_survey_next_request(survey, &reply.id, &offset, &length) == 1) {
        if (server.block_status(length, offset, extent_cb, &reply) == -1)
            return -1; // the caller takes the whole range for data, as today
        if (nbdx_survey_reply_done(survey, reply.id) == -1)
            return -1;
        while ((count = nbdx_survey_read(survey, extents, 512)) > 0)
            for (ssize_t i = 0; i < count; i++)
                if (extents[i].flags & NBDX_ZERO)
                    zeroed(extents[i].start, extents[i].length);
    }
    return nbdx_survey_complete(survey);
}
}

static Zeroed replaced(const Server &server, uint64_t offset, uint64_t length)
{
    Zeroed zeroed;
    nbdx_options *options = nbdx_options_new(server.size());
    CHECK(nbdx_options_require(options, "base:allocation") == 0);
    CHECK(nbdx_options_range(options, offset, length) == 0);
    nbdx_survey *survey = nbdx_survey_with_options(options);
    CHECK(dropin::list(server, survey, [&](uint64_t start, uint64_t size) { zeroed[start] = size; }) == 0);
    nbdx_survey_free(survey);
    nbdx_options_free(options);
    return zeroed;
}

int main()
{
    const uint32_t M = 1 << 20;
    // data, a hole of undefined content, zeroes, data, zeroes without space, data, zeroes
    const Server server{{{M, 0}, {M, HOLE}, {M, ZERO}, {M, 0}, {M, HOLE | ZERO}, {M, 0}, {2 * M, ZERO}}};

    // today the hole is listed as zeroed, so the migrated image has zeroes where the source had anything;
    // what lies beyond the first reply is listed as data, which is safe and slow
    CHECK((today::list(server, 0, 8 * M) == Zeroed{{M, M}, {2 * M, M}}));
    CHECK((replaced(server, 0, 8 * M) == Zeroed{{2 * M, M}, {4 * M, M}, {6 * M, 2 * M}}));

    // a part of the image: cut at its edges, although the server answers beyond them
    CHECK((replaced(server, 2 * M + 4096, 5 * M) ==
           Zeroed{{2 * M + 4096, M - 4096}, {4 * M, M}, {6 * M, M + 4096}}));
    return 0;
}
