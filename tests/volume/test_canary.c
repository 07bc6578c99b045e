/* Each planted fault of blockdev/volume/canary.h is found by the checker that should find it: the store is compiled once more
 * with its hooks alive. A canary that survives means that the proof has a hole. test_canary [NUMBER]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blockdev/volume/canary.h"
#include "damage.h"
#include "enumerate.h"

int volume_canary_planted;

static double budget_s(void) {
    const char *seconds = getenv("PENSTOCK_TEST_SECONDS");
    return seconds != NULL ? atof(seconds) : 25;
}

struct plan {
    int canary;
    const char *name;
    const char *workloads[4];               /* where it shows soonest; then all others */
    bool (*other)(char *text, size_t size); /* instead of cuts; false = found */
    uint64_t fail_flush_max;                /* the n-th flush fails, for n up to this */
};

#define CANARY(name_) .canary = VOLUME_CANARY_##name_, .name = #name_
static const struct plan plans[] = {
    {CANARY(BIT_BEFORE_FLUSH), .workloads = {"first-writes", "flush-storm"}},
    {CANARY(FLUSH_JOINS_LATE), .workloads = {"flush-storm", "first-writes"}},
    {CANARY(FUA_ON_PENDING), .workloads = {"native-fua", "fua"}},
    {CANARY(FUA_ZERO_ON_PENDING), .workloads = {"zeroes", "trim", "native-fua"}},
    {CANARY(SNAPSHOT_BEFORE_DATA), .workloads = {"snapshot-in-flight", "snapshots"}},
    {CANARY(SNAPSHOT_WITHOUT_PENDING), .workloads = {"snapshots", "snapshot-in-flight"}},
    {CANARY(NEW_HEAD_FLUSH_EARLY), .workloads = {"snapshot-in-flight", "snapshots"}},
    {CANARY(REUSE_BEFORE_FREE), .workloads = {"full", "full-with-slow-reads"}},
    {CANARY(REUSE_UNDER_READER), .workloads = {"full-with-slow-reads", "full"}},
    {CANARY(DISCARD_BEFORE_FREE), .workloads = {"trim", "full", "delete-and-create"}},
    {CANARY(STALE_RECORD), .workloads = {"ring"}},
    {CANARY(CHECKPOINT_AHEAD), .workloads = {"slow-journal"}},
    {CANARY(CHECKPOINT_NO_FLUSH), .workloads = {"checkpoints", "checkpoints-overtaken"}},
    {CANARY(JOURNAL_REUSED_EARLY), .workloads = {"slow-superblock"}},
    {CANARY(PAGE_SAYS_TOO_MUCH), .workloads = {"snapshots", "checkpoints-overtaken", "everything"}},
    {CANARY(REPLAY_KEEPS_DROPPED), .workloads = {"delete-and-create"}},
    {CANARY(FLUSH_RETRIED), .workloads = {"flush-storm", "fua"}, .fail_flush_max = 60},
    {CANARY(OPEN_WITHOUT_FLUSH), .workloads = {"first-writes", "flush-storm", "names-and-attributes"}},
    {CANARY(MERGE_OVER_OWN), .workloads = {"merge", "merge-in-flight"}},
    {CANARY(MERGE_FREES_EARLY), .workloads = {"merge", "merge-in-flight"}},
    {CANARY(SHRINK_KEEPS_LIMIT), .workloads = {"resize"}},
    {CANARY(RMW_RACES), .workloads = {"sub-block", "snapshot-in-flight", "merge-in-flight"}},
    {CANARY(NO_SPACE_HALF), .workloads = {"full"}},
    {CANARY(CLONE_SHARES), .workloads = {"clones", "snapshots"}},
    {CANARY(DAMAGE_AS_TAIL), .other = damage_in_the_journal_is_told},
};

static const struct workload *workload_named(const char *name) {
    for (unsigned i = 0; i < workload_count; i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    abort();
}

static bool survives(const struct workload *workload, double until_s, char *text, size_t size) {
    static const struct enumeration_pass light = {.seed = 1, .plain_chance = ENUMERATION_ALL, .second_operations = 40};
    struct enumeration *e = malloc(sizeof(*e));
    bool ok = enumeration_start(e, workload);
    if (ok && workload->fail_count == 0) {
        struct enumeration_pass pass = light;
        pass.cpu_until_s = until_s;
        ok = enumeration_pass(e, &pass);
        pass.exhaustive_max = 6;
        pass.seeded = 8;
        pass.torn = true;
        pass.image_chance = ENUMERATION_ALL / 8;
        pass.second_plain_chance = ENUMERATION_ALL;
        pass.second_image_chance = ENUMERATION_ALL / 128;
        pass.second_chance = 65536 / 12;
        ok = ok && enumeration_pass(e, &pass);
    }
    snprintf(text, size, "%s", e->failure);
    enumeration_end(e);
    free(e);
    return ok;
}

/* In a process of its own: an assertion of the store counts as found, too. */
static bool survives_all(const struct plan *plan, char *text, size_t size) {
    double began = cpu_seconds(), until_s = began + budget_s();
    if (plan->other != NULL)
        return plan->other(text, size);
    for (unsigned i = 0; i < array_count(plan->workloads) && plan->workloads[i] != NULL; i++) {
        struct workload workload = *workload_named(plan->workloads[i]);
        for (uint64_t n = 1; n <= plan->fail_flush_max; n++) {
            workload.fail_at[DISK_FAULT_FLUSH] = n;
            workload.fail_count = 1;
            if (!survives(&workload, until_s, text, size))
                return false;
        }
        if (plan->fail_flush_max == 0 && !survives(&workload, until_s, text, size))
            return false;
    }
    for (unsigned i = 0; i < workload_count && cpu_seconds() < until_s; i++)
        if (!survives(&workloads[i], until_s, text, size))
            return false;
    return true;
}

int main(int argc, char **argv) {
    heap_keep_memory();
    unsigned survivors = 0, planted = 0, first = argc > 1 ? (unsigned)atoi(argv[1]) : 0,
             step = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    static_assert(array_count(plans) == VOLUME_CANARIES - 1, "each canary has a plan");
    for (unsigned i = first; i < array_count(plans); i += step) {
        planted++;
        int pipes[2];
        if (pipe(pipes) != 0)
            return 2;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            char text[1024] = "";
            volume_canary_planted = plans[i].canary;
            bool survived = survives_all(&plans[i], text, sizeof(text));
            char line[1200];
            int length = snprintf(line, sizeof(line), "%.1f s: %s", cpu_seconds(), text);
            if (write(pipes[1], line, (size_t)length) != length)
                _exit(2);
            _exit(survived ? 1 : 0);
        }
        close(pipes[1]);
        char line[1300] = "";
        ssize_t got = read(pipes[0], line, sizeof(line) - 1);
        line[got > 0 ? got : 0] = '\0';
        close(pipes[0]);
        int status = 0;
        waitpid(child, &status, 0);
        bool died = WIFSIGNALED(status);
        bool survived = WIFEXITED(status) && WEXITSTATUS(status) != 0;
        printf("%s %s: %s\n", survived ? "not ok: SURVIVED" : "found", plans[i].name, died ? "an assertion ended it" : line);
        survivors += survived;
    }
    printf("note: canaries: %u planted one by one, %u survived\n", planted, survivors);
    return survivors != 0;
}
