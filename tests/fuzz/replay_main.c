/* main() of a fuzz target in a plain build: feeds it every file of its corpus and seeded mutations of each, as an ordinary test.
 * The same targets are libFuzzer programs in a build with -Dfuzz=true; that one searches, this one keeps what was found.
 *
 *   fuzz_NAME CORPUS_FOLDER            all of it; PENSTOCK_TEST_BUDGET=long tries many more mutations
 *   fuzz_NAME FILE                     one file, as it is: a finding
 *   fuzz_NAME FILE MUTATION            one mutation, by the number that a failure printed
 *
 * An input that kills the program is named on stderr and kept in the working directory.
 * Must not: depend on time or on the order of directory entries. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_SIZE_MAX MIB(1)
#define MUTATIONS_SHORT 200
#define MUTATIONS_SANITIZED 100 /* each takes five times as long */
#define MUTATIONS_LONG 20000
/* Bytes that a whole run may feed, so that a corpus of large files stays a quick test. */
#define FED_BYTES_SHORT MIB(64)
#define FED_BYTES_LONG GIB(4)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* What a target may have besides, as for libFuzzer. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
__attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
/* libFuzzer's own mutator, for custom ones to call. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
/* Of the sanitizers' runtime, when there is one. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

struct corpus_file {
    char *path;
    uint8_t *bytes;
    size_t size;
};

/* What a dying process needs at hand: signal handlers have no argument of ours. */
static struct {
    const char *path;
    uint64_t mutation; /* 0 = the file as it is */
    const uint8_t *bytes;
    size_t size;
    bool told;
    char kept_as[128];
} current;
static struct random mutator_random;

/* What a signal handler may do: no stdio. */
static void say(const char *text) { (void)!write(STDERR_FILENO, text, strlen(text)); }

static void say_number(uint64_t number) {
    char digits[24];
    size_t at = sizeof(digits) - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    say(digits + at);
}

static void tell_what_killed_us(void) {
    if (current.told || current.path == NULL)
        return;
    current.told = true;
    say("replay: died of mutation ");
    say_number(current.mutation);
    say(" of ");
    say(current.path);
    say("; the input is kept as ");
    say(current.kept_as);
    say("\n");
    int file = open(current.kept_as, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file >= 0)
        (void)!write(file, current.bytes, current.size);
}

static void on_fatal_signal(int number) {
    tell_what_killed_us();
    signal(number, SIG_DFL);
    raise(number);
}

/* One step, of those that break decoders: flipped bits, interesting integers, lost, doubled and moved ranges, another's tail. */
static size_t mutate_once(struct random *random, uint8_t *bytes, size_t size, size_t max_size) {
    static const uint64_t interesting[] = {0,      1,       2,          7,          8,          16,        127,
                                           128,    255,     256,        4095,       4096,       32767,     32768,
                                           0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX};
    size_t at = size == 0 ? 0 : (size_t)random_below(random, size);
    size_t rest = size - at;
    size_t length = rest == 0 ? 0 : 1 + (size_t)random_below(random, min_u64(rest, 64));
    switch (random_below(random, 8)) {
    case 0: /* flip a bit */
        if (size > 0)
            bytes[at] ^= (uint8_t)(1u << random_below(random, 8));
        return size;
    case 1: /* set a byte */
        if (size > 0)
            bytes[at] = (uint8_t)random_u64(random);
        return size;
    case 2: { /* an integer of 1 to 8 bytes, either byte order */
        uint64_t value = interesting[random_below(random, array_count(interesting))];
        size_t width = (size_t)1 << random_below(random, 4);
        if (random_chance(random, 1, 2))
            value = __builtin_bswap64(value) >> (64 - width * 8);
        if (rest >= width)
            memcpy(bytes + at, &value, width);
        return size;
    }
    case 3: /* add or subtract a little */
        if (size > 0)
            bytes[at] = (uint8_t)(bytes[at] + random_below(random, 33) - 16);
        return size;
    case 4: /* cut the end */ return at;
    case 5: /* lose a range */ memmove(bytes + at, bytes + at + length, rest - length); return size - length;
    case 6: /* double a range */
        if (size + length > max_size)
            return size;
        memmove(bytes + at + length, bytes + at, rest);
        return size + length;
    default: /* bytes in between */
        length = 1 + (size_t)random_below(random, 16);
        if (size + length > max_size)
            return size;
        memmove(bytes + at + length, bytes + at, rest);
        random_fill(random, bytes + at, length);
        return size + length;
    }
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
    return mutate_once(&mutator_random, data, size, max_size);
}

/* The n-th mutation of a file depends on its bytes and n alone. */
static size_t mutate(const struct corpus_file *file, uint64_t mutation, uint8_t *to, size_t max_size) {
    random_init(&mutator_random, mutation << 32 | crc32c(file->bytes, file->size));
    memcpy(to, file->bytes, file->size);
    size_t size = file->size;
    uint64_t steps = 1 + random_below(&mutator_random, 4);
    for (uint64_t i = 0; i < steps; i++) {
        if (LLVMFuzzerCustomMutator != NULL)
            size = LLVMFuzzerCustomMutator(to, size, max_size, (unsigned)random_u64(&mutator_random));
        else
            size = mutate_once(&mutator_random, to, size, max_size);
    }
    return size;
}

/* Feeds a copy of exactly that size, so that a sanitizer sees a read beyond it. */
static void feed(const struct corpus_file *file, uint64_t mutation, const uint8_t *bytes, size_t size) {
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    assert(copy != NULL);
    if (size > 0)
        memcpy(copy, bytes, size);
    current.path = file->path;
    current.mutation = mutation;
    current.bytes = copy;
    current.size = size;
    LLVMFuzzerTestOneInput(copy, size);
    current.path = NULL;
    free(copy);
}

static bool corpus_file_read(struct corpus_file *file) {
    FILE *stream = fopen(file->path, "rb");
    if (stream == NULL)
        return false;
    file->bytes = malloc(INPUT_SIZE_MAX);
    assert(file->bytes != NULL);
    file->size = fread(file->bytes, 1, INPUT_SIZE_MAX, stream);
    bool whole = fgetc(stream) == EOF && !ferror(stream);
    fclose(stream);
    if (!whole)
        fprintf(stderr, "replay: %s is not readable, or larger than %llu bytes\n", file->path,
                (unsigned long long)INPUT_SIZE_MAX);
    return whole;
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct corpus_file *)a)->path, ((const struct corpus_file *)b)->path);
}

/* The files of a folder (or the one file) in the order of their names; 0 if there is none. */
static size_t corpus_list(const char *path, struct corpus_file **ret_files) {
    struct stat stat_buffer;
    struct corpus_file *files = calloc(1, sizeof(*files));
    assert(files != NULL);
    *ret_files = files;
    if (stat(path, &stat_buffer) != 0)
        return 0;
    if (!S_ISDIR(stat_buffer.st_mode)) {
        files[0].path = strdup(path);
        return 1;
    }
    DIR *directory = opendir(path);
    if (directory == NULL)
        return 0;
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        files = realloc(files, (count + 1) * sizeof(*files));
        assert(files != NULL);
        memset(&files[count], 0, sizeof(files[count]));
        if (asprintf(&files[count].path, "%s/%s", path, entry->d_name) < 0)
            abort();
        count++;
    }
    closedir(directory);
    qsort(files, count, sizeof(*files), by_path);
    *ret_files = files;
    return count;
}

int main(int argc, char **argv) {
    if (LLVMFuzzerInitialize != NULL)
        LLVMFuzzerInitialize(&argc, &argv);
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER | FILE [MUTATION]\n", argv[0]);
        return 64;
    }
    if (__sanitizer_set_death_callback != NULL)
        __sanitizer_set_death_callback(tell_what_killed_us);
    const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTERM};
    for (size_t i = 0; i < array_count(fatal); i++)
        if (__sanitizer_set_death_callback == NULL || fatal[i] == SIGABRT || fatal[i] == SIGTERM)
            signal(fatal[i], on_fatal_signal);

    snprintf(current.kept_as, sizeof(current.kept_as), "%s.finding", program_invocation_short_name);
    struct corpus_file *files;
    size_t count = corpus_list(argv[1], &files);
    uint8_t *mutated = malloc(INPUT_SIZE_MAX);
    assert(mutated != NULL);
    const char *budget = getenv("PENSTOCK_TEST_BUDGET");
    bool is_long = budget != NULL && strcmp(budget, "long") == 0, sanitized = budget != NULL && strcmp(budget, "sanitized") == 0;
    bool one_file = count == 1 && strcmp(files[0].path, argv[1]) == 0;
    uint64_t first = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t last = one_file ? first : is_long ? MUTATIONS_LONG : sanitized ? MUTATIONS_SANITIZED : MUTATIONS_SHORT;
    uint64_t fed_bytes = 0, fed = 0;
    bool ok = count > 0;

    for (size_t i = 0; ok && i < count; i++)
        ok = corpus_file_read(&files[i]);
    /* Mutations in the outer loop: a byte limit takes from all files alike. */
    for (uint64_t mutation = first; ok && mutation <= last; mutation++) {
        for (size_t i = 0; i < count; i++) {
            const struct corpus_file *file = &files[i];
            size_t size = mutation == 0 ? file->size : mutate(file, mutation, mutated, INPUT_SIZE_MAX);
            if (mutation > 0 && !one_file && fed_bytes + size > (is_long ? FED_BYTES_LONG : FED_BYTES_SHORT))
                continue;
            feed(file, mutation, mutation == 0 ? file->bytes : mutated, size);
            fed_bytes += size;
            fed++;
        }
    }
    if (count == 0)
        fprintf(stderr, "replay: no corpus in %s\n", argv[1]);
    else if (ok)
        printf("note: %zu files, %llu inputs, %llu bytes\n", count, (unsigned long long)fed, (unsigned long long)fed_bytes);

    for (size_t i = 0; i < count; i++) {
        free(files[i].path);
        free(files[i].bytes);
    }
    free(files);
    free(mutated);
    return ok ? 0 : 1;
}
