/* Memory that others gave us to map, and that they can take away: a guest's file that is cut short has whoever touches what is
 * gone get SIGBUS. The mapping is replaced on the spot with zeros of our own, and remembered; whose it was has to find that out.
 * The handler calls nothing that it may not: open, read, mmap. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/linux/linux.h"

#define LOST_MAX 256 /* the last ones are remembered */

struct range {
    uintptr_t first, end;
    bool shared;
};

/* The process's, as its signals are. */
static struct range lost[LOST_MAX];
static _Atomic unsigned lost_count;
static atomic_flag handling = ATOMIC_FLAG_INIT;

/* One line of /proc/self/maps at a time: "first-end rwxs …". */
struct maps_reader {
    struct range range;
    unsigned field; /* 0 first, 1 end, 2 the four letters, 3 the rest */
    unsigned letter;
};

/* True at the end of a line. */
static bool maps_take(struct maps_reader *reader, char c) {
    if (c == '\n')
        return true;
    if (reader->field < 2 && (c == '-' || c == ' ')) {
        reader->field++;
        return false;
    }
    unsigned digit = c >= 'a' ? (unsigned)c - 'a' + 10 : (unsigned)c - '0';
    if (reader->field == 0)
        reader->range.first = reader->range.first << 4 | digit;
    else if (reader->field == 1)
        reader->range.end = reader->range.end << 4 | digit;
    else if (reader->field == 2 && ++reader->letter == 4) {
        reader->range.shared = c == 's';
        reader->field = 3;
    }
    return false;
}

/* The mapping that an address is in. */
static bool find_mapping(uintptr_t address, struct range *ret_range) {
    char bytes[2048];
    struct maps_reader reader = {.field = 0};
    bool found = false;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    ssize_t count;
    while (fd >= 0 && !found && (count = read(fd, bytes, sizeof(bytes))) > 0)
        for (ssize_t i = 0; i < count && !found; i++) {
            if (!maps_take(&reader, bytes[i]))
                continue;
            found = address >= reader.range.first && address < reader.range.end;
            if (found)
                *ret_range = reader.range;
            reader = (struct maps_reader){.field = 0};
        }
    if (fd >= 0)
        close(fd);
    return found;
}

/* True: what is there can be read now. */
static bool replace(uintptr_t address) {
    struct range range;
    if (!find_mapping(address, &range))
        return false;
    unsigned count = atomic_load(&lost_count);
    if (!range.shared) { /* another thread was here first, or it is no concern of ours */
        for (unsigned i = count > LOST_MAX ? count - LOST_MAX : 0; i < count; i++)
            if (address >= lost[i % LOST_MAX].first && address < lost[i % LOST_MAX].end)
                return true;
        return false;
    }
    /* All of it: pages may be huge ones, which are not replaced by halves. */
    if (mmap((void *)range.first, range.end - range.first, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        return false;
    lost[count % LOST_MAX] = range;
    atomic_store(&lost_count, count + 1);
    return true;
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    (void)context;
    int saved = errno;
    while (atomic_flag_test_and_set(&handling)) /* of another thread: never long */
        ;
    bool replaced = info->si_code == BUS_ADRERR && replace((uintptr_t)info->si_addr);
    atomic_flag_clear(&handling);
    if (!replaced)
        signal(number, SIG_DFL); /* the instruction runs again, and ends us as it would have */
    errno = saved;
}

int host_linux_guard_mappings(void) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL) == 0 ? 0 : -errno;
}

unsigned host_linux_lost_mappings(void) { return atomic_load_explicit(&lost_count, memory_order_acquire); }

bool host_linux_lost_mapping(unsigned from, const void *start, size_t size) {
    uintptr_t first = (uintptr_t)start, end = first + size;
    unsigned count = atomic_load(&lost_count);
    if (count - from > LOST_MAX)
        return true; /* too long ago to say: the careful answer */
    for (unsigned i = from; i != count; i++)
        if (lost[i % LOST_MAX].first < end && first < lost[i % LOST_MAX].end)
            return true;
    return false;
}
