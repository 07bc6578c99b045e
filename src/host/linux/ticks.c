/* May durations be read from the processor's time-stamp counter, and how fast does it run? Only if it is invariant and the kernel
 * itself trusts it (its clock source); else host_ticks() is clock_gettime(), some 20 ns more a reading. */
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "host/linux/internal.h"

#if defined(__x86_64__)
enum { CALIBRATION_NS = 2000000 };

static bool tsc_is_trusted(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || (d & (1u << 8)) == 0) /* invariant: constant rate, never stops */
        return false;
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (file == NULL)
        return false;
    char name[16] = "";
    bool tsc = fgets(name, sizeof(name), file) != NULL && strcmp(name, "tsc\n") == 0;
    fclose(file);
    return tsc;
}

/* A pair of readings of the same moment: the tightest of several, since an interrupt may come between. */
static void read_both(struct host *host, uint64_t *ret_ticks, uint64_t *ret_ns) {
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 8; i++) {
        uint64_t before = __builtin_ia32_rdtsc(), ns = host_now_ns(host), after = __builtin_ia32_rdtsc();
        if (after - before < best) {
            best = after - before;
            *ret_ticks = before + (after - before) / 2;
            *ret_ns = ns;
        }
    }
}
#endif

void linux_ticks_calibrate(struct host *host) {
    host->ticks_per_second = NS_PER_S;
#if defined(__x86_64__)
    if (!tsc_is_trusted())
        return;
    uint64_t ticks0 = 0, ns0 = 0, ticks1 = 0, ns1 = 0;
    read_both(host, &ticks0, &ns0);
    struct timespec pause = {.tv_nsec = CALIBRATION_NS}; /* both ends within some 30 ns: 15 ppm */
    nanosleep(&pause, NULL);
    read_both(host, &ticks1, &ns1);
    if (ns1 <= ns0 || ticks1 <= ticks0)
        return;
    host->ticks_per_second = (uint64_t)((unsigned __int128)(ticks1 - ticks0) * NS_PER_S / (ns1 - ns0));
    host->ticks_are_tsc = true;
#endif
}
