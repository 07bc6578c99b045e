#include "heap.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Before each block. */
struct block {
    struct list_node node;
    struct heap *heap; /* NULL = nobody's */
    void *base;        /* what the system gave */
    size_t size;
    uint64_t unused;
};
static_assert(sizeof(struct block) % 16 == 0, "keeps malloc's alignment");

/* The allocator's interface has no argument to carry this. */
static struct heap *current;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);
char *__wrap_strdup(const char *text);
int __wrap_asprintf(char **ret_text, const char *format, ...) __attribute__((format(printf, 2, 3)));

void heap_keep_memory(void) {
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

void heap_init(struct heap *heap) {
    *heap = (struct heap){0};
    list_init(&heap->blocks);
}

struct heap *heap_enter(struct heap *heap) {
    struct heap *before = current;
    current = heap;
    return before;
}

static void *begin(void *base, size_t skip, size_t size) {
    if (base == NULL)
        return NULL;
    struct block *block = (struct block *)(void *)((char *)base + skip) - 1;
    *block = (struct block){.heap = current, .base = base, .size = size};
    if (current != NULL) {
        list_push_back(&current->blocks, &block->node);
        current->live_bytes += size;
        if (current->live_bytes > current->peak_bytes)
            current->peak_bytes = current->live_bytes;
    }
    return block + 1;
}

static bool fails(void) {
    if (current == NULL || (++current->allocations != current->fail_at && !current->dry))
        return false;
    current->failed++;
    return true;
}

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : begin(__real_malloc(size + sizeof(struct block)), sizeof(struct block), size);
}

void *__wrap_calloc(size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total) || total > SIZE_MAX / 2)
        return NULL;
    return fails() ? NULL : begin(__real_calloc(1, total + sizeof(struct block)), sizeof(struct block), total);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    size_t skip = alignment < sizeof(struct block) ? sizeof(struct block) : alignment;
    return fails() ? NULL : begin(__real_aligned_alloc(skip, round_up(size + skip, skip)), skip, size);
}

void __wrap_free(void *memory) {
    if (memory == NULL)
        return;
    struct block *block = (struct block *)memory - 1;
    if (block->heap != NULL) {
        list_remove(&block->node);
        block->heap->live_bytes -= block->size;
    }
    __real_free(block->base);
}

/* Always moves, so that a pointer kept across it is found out. */
void *__wrap_realloc(void *memory, size_t size) {
    void *to = __wrap_malloc(size);
    if (memory != NULL && to != NULL) {
        const struct block *block = (const struct block *)memory - 1;
        memcpy(to, memory, block->size < size ? block->size : size);
        __wrap_free(memory);
    }
    return to;
}

char *__wrap_strdup(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = __wrap_malloc(size);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

int __wrap_asprintf(char **ret_text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || (*ret_text = __wrap_malloc((size_t)length + 1)) == NULL)
        return -1;
    va_start(arguments, format);
    vsnprintf(*ret_text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return length;
}

void heap_drop(struct heap *heap) {
    for (struct list_node *node; (node = list_pop_front(&heap->blocks)) != NULL;)
        __real_free(container_of(node, struct block, node)->base);
    heap->live_bytes = 0;
}

void *plain_alloc(size_t size) {
    void *memory = __real_malloc(size == 0 ? 1 : size);
    if (memory == NULL)
        abort();
    return memory;
}

void *plain_grow(void *memory, size_t size) {
    memory = __real_realloc(memory, size);
    if (memory == NULL)
        abort();
    return memory;
}

void plain_free(void *memory) { __real_free(memory); }
