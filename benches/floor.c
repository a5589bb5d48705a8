/* The floor of benches/extents.py: the least that a copy of many short extents costs a processor.
 *
 *     floor SOURCE.sock TARGET.sock COUNT STEP        from socket to socket
 *     floor SOURCE.sock file:PATH COUNT STEP          from socket to file
 *
 * It reads COUNT extents of 16 KiB, one in every STEP bytes, and writes each of them where it was,
 * with 64 requests in flight. It checks no error, keeps no books beyond two counters, and knows where
 * the extents are. Like the program it waits with poll and has one thread; other than the program it
 * receives several answers at a time, into one buffer that stays in the processor's cache. A file it
 * writes past the page cache, 4 MiB at a time, as the program does. */
#define _GNU_SOURCE
#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { LENGTH = 16384, IN_FLIGHT = 64, BUFFER = 4 << 20, CHUNK = 4 << 20, REPLY = 16 };
static const uint32_t MAGIC = 0x25609513;

struct __attribute__((packed)) request {
    uint32_t magic;
    uint16_t flags, command;
    uint64_t cookie, offset;
    uint32_t length;
};

static struct request request(int command, uint64_t nth, uint64_t step)
{
    return (struct request){htobe32(MAGIC),     0, htobe16(command), htobe64(nth),
                            htobe64(nth * step), htobe32(LENGTH)};
}

static void check(int fine, const char *what)
{
    if (!fine) {
        perror(what);
        exit(1);
    }
}

/* Connects to the default export with EXPORT_NAME: replies are simple then. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    check(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, path);
    char hello[18], ask[] = "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0", export[10];
    check(recv(fd, hello, sizeof hello, MSG_WAITALL) == sizeof hello, "hello");
    check(send(fd, ask, sizeof ask - 1, 0) == sizeof ask - 1, "option");
    check(recv(fd, export, sizeof export, MSG_WAITALL) == sizeof export, "export");
    return fd;
}

/* Sends as much as goes, and takes it off the list. */
static void send_some(int fd, int is_file, struct iovec *list, int *length)
{
    struct msghdr message = {.msg_iov = list, .msg_iovlen = *length};
    ssize_t sent = is_file ? writev(fd, list, *length) : sendmsg(fd, &message, MSG_DONTWAIT);
    int whole = 0;
    for (; whole < *length && sent >= (ssize_t)list[whole].iov_len; whole++)
        sent -= list[whole].iov_len;
    if (whole < *length && sent > 0) {
        list[whole].iov_base = (char *)list[whole].iov_base + sent;
        list[whole].iov_len -= sent;
    }
    memmove(list, list + whole, (*length - whole) * sizeof *list);
    *length -= whole;
}

/* Copies the list to a chunk of whole blocks, which is written past the page cache when it is full. */
static void collect(int fd, struct iovec *list, int *length)
{
    static char *chunk;
    static size_t filled;
    if (!chunk)
        check((chunk = aligned_alloc(4096, CHUNK)) != NULL, "memory");
    for (int nth = 0; nth < *length; nth++)
        for (size_t done = 0; done < list[nth].iov_len;) {
            size_t room = CHUNK - filled, rest = list[nth].iov_len - done, now = rest < room ? rest : room;
            memcpy(chunk + filled, (char *)list[nth].iov_base + done, now);
            filled += now, done += now;
            if (filled == CHUNK)
                check(write(fd, chunk, CHUNK) == CHUNK, "write"), filled = 0;
        }
    if (!*length) { /* the end */
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT);
        check(write(fd, chunk, filled) == (ssize_t)filled, "write");
    }
    *length = 0;
}

int main(int count, char **args)
{
    check(count == 5, "floor SOURCE TARGET COUNT STEP");
    int is_file = strncmp(args[2], "file:", 5) == 0;
    uint64_t extents = strtoull(args[3], 0, 10), step = strtoull(args[4], 0, 10), next = 0, done = 0;
    int source = connect_to(args[1]);
    int target = is_file ? open(args[2] + 5, O_CREAT | O_TRUNC | O_WRONLY, 0644) : connect_to(args[2]);
    check(target >= 0, args[2]);
    /* a pipe with this flag would keep writes apart */
    int is_direct = is_file && strcmp(args[2], "file:/dev/stdout") && fcntl(target, F_SETFL, O_DIRECT) == 0;
    char *buffer = malloc(BUFFER), replies[4096];
    size_t start = 0, end = 0, reply_bytes = 0;
    uint64_t reading = 0, writing = 0;
    struct request reads[IN_FLIGHT], writes[2 * IN_FLIGHT];
    struct iovec list[4 * IN_FLIGHT];
    int listed = 0;

    while (done < extents) {
        int asked = 0;
        if (reading + writing <= IN_FLIGHT / 2)
            for (; reading + writing < IN_FLIGHT && next < extents; reading++)
                reads[asked++] = request(0, next++, step);
        if (asked)
            check(send(source, reads, asked * sizeof *reads, 0) > 0, "send");
        struct pollfd wanted[] = {{source, reading ? POLLIN : 0, 0},
                                  {target, (writing ? POLLIN : 0) | (listed ? POLLOUT : 0), 0}};
        check(poll(wanted, is_file ? 1 : 2, -1) > 0, "poll");
        if (!is_file && wanted[1].revents & POLLIN) {
            ssize_t got = recv(target, replies, sizeof replies - reply_bytes, MSG_DONTWAIT);
            reply_bytes += got > 0 ? got : 0;
            done += reply_bytes / REPLY, writing -= reply_bytes / REPLY;
            reply_bytes %= REPLY;
        }
        if (!listed && start) { /* all is sent: from the start of the buffer again, which is warm */
            memmove(buffer, buffer + start, end - start);
            end -= start, start = 0;
        }
        if (wanted[0].revents & POLLIN) {
            ssize_t got = recv(source, buffer + end, BUFFER - end, MSG_DONTWAIT);
            check(got > 0, "recv");
            end += got;
        }
        for (; end - start >= REPLY + LENGTH; start += REPLY + LENGTH, reading--, writing++) {
            uint64_t cookie;
            memcpy(&cookie, buffer + start + 8, sizeof cookie);
            struct request *header = &writes[be64toh(cookie) % (2 * IN_FLIGHT)];
            *header = request(1, be64toh(cookie), step);
            list[listed++] = (struct iovec){header, sizeof *header};
            list[listed++] = (struct iovec){buffer + start + REPLY, LENGTH};
        }
        if (listed && is_direct)
            collect(target, list, &listed);
        else if (listed)
            send_some(target, is_file, list, &listed);
        if (is_file && !listed)
            done += writing, writing = 0;
    }
    if (is_direct)
        collect(target, list, &listed);
}
