/* What is written to from the front to the end: a file that is made, or a pipe that somebody reads. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/linux/linux.h"

struct host_linux_sink {
    int fd;
};

int host_linux_sink_open(const char *path, struct host_linux_sink **ret_sink) {
    struct stat facts;
    struct host_linux_sink *sink = calloc(1, sizeof(*sink));
    if (sink == NULL)
        return -ENOMEM;
    /* A pipe is opened for reading, too: so it waits for nobody, and a reader may come later. */
    bool pipe = stat(path, &facts) == 0 && S_ISFIFO(facts.st_mode);
    sink->fd = open(path, (pipe ? O_RDWR : O_WRONLY | O_CREAT | O_TRUNC) | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (sink->fd < 0) {
        free(sink);
        return -errno;
    }
    *ret_sink = sink;
    return 0;
}

int64_t host_linux_sink_write(struct host_linux_sink *sink, const void *bytes, size_t size) {
    ssize_t count = write(sink->fd, bytes, size);
    return count >= 0 ? (int64_t)count : -errno;
}

void host_linux_sink_close(struct host_linux_sink *sink) {
    close(sink->fd);
    free(sink);
}
