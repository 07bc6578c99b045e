/* Helper threads for calls that may block. Started when needed, kept until the host goes: an idle one costs a stack's few pages.
 */
#include "host/linux/internal.h"

void thread_pool_init(struct thread_pool *pool, const char *name, unsigned limit) {
    assert(limit > 0 && limit <= POOL_THREADS_MAX);
    *pool = (struct thread_pool){.name = name, .limit = limit};
    queue_init(&pool->queue);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
}

static void *pool_main(void *arg) {
    struct thread_pool *pool = arg;
    pthread_setname_np(pthread_self(), pool->name);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (queue_empty(&pool->queue) && !pool->stopping) {
            pool->idle++;
            pthread_cond_wait(&pool->more, &pool->lock);
            pool->idle--;
        }
        struct queue_node *node = queue_pop(&pool->queue);
        if (node == NULL)
            break;
        pool->queued--;
        pthread_mutex_unlock(&pool->lock);
        struct thread_pool_work *work = container_of(node, struct thread_pool_work, node);
        work->run(work);
        linux_loop_work_done(work);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

void thread_pool_submit(struct thread_pool *pool, struct thread_pool_work *work) {
    atomic_fetch_add_explicit(&work->loop->in_pool, 1, memory_order_relaxed);
    pthread_mutex_lock(&pool->lock);
    queue_push(&pool->queue, &work->node);
    pool->queued++;
    /* `idle` counts threads that are told but have not run yet, too: hence the comparison with all that is queued. */
    if (pool->idle < pool->queued && pool->threads < pool->limit &&
        pthread_create(&pool->ids[pool->threads], NULL, pool_main, pool) == 0)
        pool->threads++;
    /* Without a single thread nothing would ever complete: the caller runs it, late but right. */
    bool none = pool->threads == 0;
    if (none) {
        queue_pop(&pool->queue);
        pool->queued--;
    }
    pthread_cond_signal(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    if (none) {
        work->run(work);
        linux_loop_work_done(work);
    }
}

void thread_pool_fini(struct thread_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    assert(queue_empty(&pool->queue));
    pool->stopping = true;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->threads; i++)
        pthread_join(pool->ids[i], NULL);
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->lock);
}
