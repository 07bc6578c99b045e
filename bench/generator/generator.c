/* A generator of frames inside a switch: it turns the switch's first net_null port into one that gives frames and takes them
 * back. A shared object for `-d` of any program on DPDK 22.11, so that penstock-packet, testpmd and Open vSwitch are measured by
 * the same code on the same core. (Debian has no headers for drivers of one's own; the public receive and transmit callbacks
 * reach as far.)
 *
 * It sends no more than `window` frames ahead of those that came back, so nothing overflows and what is lost was lost. It is told
 * by the environment, and tells by a file that it maps: struct generator, below; generator.py reads it.
 *
 *   PENSTOCK_GENERATOR=FILE,flows=N,size=BYTES,window=N,back_vlan=VID,swapped=0|1,rate=N
 *
 * flows: a power of two; back_vlan: 0 = as it was sent; swapped: the other side swaps addresses; rate: frames a second at most, 0
 * = as many as come back.
 *
 * Frame i of all goes to address fa:16:3e:00:xx:xx of flow f = i * 2654435761 mod flows, in VLAN 100 + f mod 50, and must come
 * back from there. Must not know: what the switch is. */
#include <fcntl.h>
#include <pthread.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mempool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BURST = 64, BUCKETS = 20000, BUCKET_NS = 10, FRAME_MIN = 64, FRAME_MAX = 1518, WATCH_US = 20000 };
/* After which what is out is lost: before the other side is there, and then. A thread that does not run hears nothing, so of the
 * time between two looks only this much counts. */
#define SILENCE_FIRST_MS 100
#define SILENCE_MS 5000
#define SILENCE_STEP_US 100

/* The file. Counters are written by the switch's thread. */
struct generator {
    uint64_t ready;                       /* callbacks are in place */
    uint64_t go;                          /* written by the reader: 1 = send */
    uint64_t sent, returned, lost, wrong; /* wrong: came back, but not as it should */
    uint64_t late;                        /* came back after it was given up */
    uint64_t tsc_hz;
    uint64_t round_trips[BUCKETS]; /* by 10 ns, of frames that went alone (window=1); the last one: longer */
};

struct frame {
    uint8_t to[6], from[6];
    uint8_t tag[4];
    uint8_t type[2];
    uint8_t ip[20], udp[8];
    uint64_t number, sent_tsc; /* not aligned */
} __attribute__((packed));
_Static_assert(sizeof(struct frame) <= FRAME_MIN, "the smallest frame has room");

static struct {
    struct generator *shared;
    struct rte_mempool *pool;
    uint64_t flow_mask, window, rate, epoch;
    uint64_t looked_tsc, silence_tsc; /* the last look; how long nothing has come back */
    uint64_t paced_tsc;               /* up to when what the rate allows was sent */
    unsigned size, back_vlan;
    bool swapped;
    uint16_t port;
    unsigned rx_count, tx_count; /* queues of it with a callback */
    struct frame model;
    uint64_t ip_sum; /* of the model's header, flow 0 */
} state;

static void write_be16(uint8_t *at, unsigned value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}
static unsigned flow_of(uint64_t number) { return (unsigned)(number * 2654435761u & state.flow_mask); }
static unsigned vlan_of(unsigned flow) { return 100 + flow % 50; }

/* ---- out of the generator: the switch receives ---- */

static void write_frame(struct rte_mbuf *mbuf, uint64_t number, uint64_t now_tsc) {
    struct frame *frame = rte_pktmbuf_mtod(mbuf, struct frame *);
    unsigned flow = flow_of(number);
    uint64_t sum = state.ip_sum + flow;
    *frame = state.model;
    write_be16(frame->to + 4, flow);
    write_be16(frame->tag + 2, vlan_of(flow));
    write_be16(frame->ip + 18, flow);
    sum = (sum & 0xffff) + (sum >> 16);
    write_be16(frame->ip + 10, (unsigned)~(sum + (sum >> 16)) & 0xffff);
    frame->number = number;
    frame->sent_tsc = now_tsc;
    mbuf->data_len = (uint16_t)state.size;
    mbuf->pkt_len = state.size;
}

/* What is out for so long does not come any more. */
static void give_up(struct generator *shared, uint64_t out) {
    uint64_t patience_ms = shared->returned == 0 ? SILENCE_FIRST_MS : SILENCE_MS;
    if (state.silence_tsc < patience_ms * (shared->tsc_hz / 1000))
        return;
    shared->lost += out;
    state.epoch = shared->sent;
    state.silence_tsc = 0;
}

/* Frames that are due; what was not taken for 1 ms is not made up for. */
static uint64_t allowed(uint64_t pace_tsc, uint64_t now_tsc) {
    uint64_t oldest = now_tsc - state.shared->tsc_hz / 1000;
    if (state.paced_tsc < oldest)
        state.paced_tsc = oldest;
    return (now_tsc - state.paced_tsc) / pace_tsc;
}

static uint16_t receive(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count, uint16_t max, void *unused) {
    (void)queue, (void)unused;
    struct generator *shared = state.shared;
    uint64_t now_tsc = rte_rdtsc();
    uint64_t out = shared->sent - shared->returned - shared->lost;
    state.silence_tsc += RTE_MIN(now_tsc - state.looked_tsc, shared->tsc_hz / 1000000 * SILENCE_STEP_US);
    state.looked_tsc = now_tsc;
    if (out == 0)
        state.silence_tsc = 0;
    if (out >= state.window || !__atomic_load_n(&shared->go, __ATOMIC_RELAXED)) {
        if (out > 0)
            give_up(shared, out);
        return count;
    }
    uint64_t n = RTE_MIN(state.window - out, (uint64_t)RTE_MIN(max - count, BURST));
    if (state.rate != 0)
        n = RTE_MIN(n, allowed(shared->tsc_hz / state.rate, now_tsc));
    /* Whole bursts, as a card that is behind has them: a trickle would measure the calls. */
    if (n == 0 || (n < 32 && state.window >= 64))
        return count;
    if (rte_pktmbuf_alloc_bulk(state.pool, frames + count, (unsigned)n) != 0)
        return count;
    for (uint64_t i = 0; i < n; i++) {
        write_frame(frames[count + i], shared->sent + i, now_tsc);
        frames[count + i]->port = port;
    }
    shared->sent += n;
    if (state.rate != 0)
        state.paced_tsc += n * (shared->tsc_hz / state.rate);
    return (uint16_t)(count + n);
}

/* ---- back ---- */

static bool is_right(const struct rte_mbuf *mbuf, const struct frame *frame) {
    unsigned flow = flow_of(frame->number), vlan = state.back_vlan != 0 ? state.back_vlan : vlan_of(flow);
    const uint8_t *flows = state.swapped ? frame->from : frame->to, *own = state.swapped ? frame->to : frame->from;
    return mbuf->pkt_len == state.size && memcmp(own, state.model.from, 6) == 0 && memcmp(flows, state.model.to, 4) == 0 &&
           flows[4] == (uint8_t)(flow >> 8) && flows[5] == (uint8_t)flow && frame->tag[0] == 0x81 && frame->tag[1] == 0 &&
           ((unsigned)(frame->tag[2] & 15) << 8 | frame->tag[3]) == vlan;
}

static void note_round_trip(struct generator *shared, uint64_t tsc) {
    uint64_t bucket = tsc * 1000 / (shared->tsc_hz / 1000000) / BUCKET_NS;
    shared->round_trips[RTE_MIN(bucket, (uint64_t)BUCKETS - 1)]++;
}

/* net_null frees them. */
static uint16_t transmit(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count, void *unused) {
    (void)port, (void)queue, (void)unused;
    struct generator *shared = state.shared;
    uint64_t returned = 0, wrong = 0, late = 0, now_tsc = rte_rdtsc();
    for (uint16_t i = 0; i < count; i++)
        rte_prefetch0(rte_pktmbuf_mtod(frames[i], void *));
    for (uint16_t i = 0; i < count; i++) {
        const struct frame *frame = rte_pktmbuf_mtod(frames[i], const struct frame *);
        /* A switch may send frames of its own, such as LLDP. */
        if (frames[i]->data_len < sizeof(*frame) || frame->number >= shared->sent || !is_right(frames[i], frame)) {
            wrong++;
        } else if (frame->number < state.epoch) {
            late++;
        } else {
            returned++;
            if (state.window == 1)
                note_round_trip(shared, now_tsc - frame->sent_tsc);
        }
    }
    shared->returned += returned;
    shared->wrong += wrong;
    shared->late += late;
    state.silence_tsc = 0;
    return count;
}

/* ---- into place ---- */

/* The largest pool of frames: a switch has one for all of its ports, or for ports of one size. */
static void look_at_pool(struct rte_mempool *pool, void *unused) {
    (void)unused;
    bool frames = pool->private_data_size >= sizeof(struct rte_pktmbuf_pool_private) && pool->elt_size >= FRAME_MAX;
    if (frames && (state.pool == NULL || pool->size > state.pool->size))
        state.pool = pool;
}

/* Callbacks on all queues that are set up, once the port runs; a switch may make more of them later. */
static void take_over(uint16_t port) {
    struct rte_eth_link link;
    struct rte_eth_dev_info info;
    if (rte_eth_link_get_nowait(port, &link) != 0 || link.link_status != RTE_ETH_LINK_UP ||
        rte_eth_dev_info_get(port, &info) != 0)
        return;
    if (state.pool == NULL)
        rte_mempool_walk(look_at_pool, NULL);
    if (state.pool == NULL)
        return;
    state.port = port;
    for (; state.tx_count < info.nb_tx_queues; state.tx_count++)
        rte_eth_add_tx_callback(port, (uint16_t)state.tx_count, transmit, NULL);
    if (state.rx_count == 0 && info.nb_rx_queues > 0) {
        state.rx_count = 1;
        state.shared->tsc_hz = rte_get_tsc_hz();
        rte_eth_add_rx_callback(port, 0, receive, NULL);
        __atomic_store_n(&state.shared->ready, 1, __ATOMIC_RELEASE);
    }
}

/* A thread, since nothing of DPDK's can be asked for before the program has started it, which is after we are loaded. */
static void *watch(void *unused) {
    (void)unused;
    char name[RTE_ETH_NAME_MAX_LEN];
    for (;;) {
        usleep(WATCH_US);
        for (uint16_t port = 0; port < RTE_MAX_ETHPORTS; port++)
            if ((state.rx_count == 0 || port == state.port) && rte_eth_dev_is_valid_port(port) &&
                rte_eth_dev_get_name_by_port(port, name) == 0 && strncmp(name, "net_null", 8) == 0)
                take_over(port);
    }
    return NULL;
}

static void make_model(void) {
    static const struct frame model = {.to = {0xfa, 0x16, 0x3e},
                                       .from = {2, 0, 0, 0, 0, 1},
                                       .tag = {0x81},
                                       .type = {8},
                                       .ip = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 1},
                                       .udp = {4, 0, 4, 1}};
    state.model = model;
    write_be16(state.model.ip + 2, state.size - 18);
    write_be16(state.model.udp + 4, state.size - 38);
    for (unsigned i = 0; i < 20; i += 2)
        state.ip_sum += (unsigned)state.model.ip[i] << 8 | state.model.ip[i + 1];
}

static void need(bool ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "generator: PENSTOCK_GENERATOR: %s\n", what);
        exit(64);
    }
}

static unsigned long number_of(const char *options, const char *key, unsigned long absent) {
    const char *at = strstr(options, key);
    return at == NULL ? absent : strtoul(at + strlen(key), NULL, 10);
}

RTE_INIT(generator_begin) {
    const char *options = getenv("PENSTOCK_GENERATOR");
    char path[256];
    sigset_t all, before;
    pthread_t thread;
    if (options == NULL)
        return;
    snprintf(path, sizeof(path), "%.*s", (int)strcspn(options, ","), options);
    state.flow_mask = number_of(options, ",flows=", 64) - 1;
    state.size = (unsigned)number_of(options, ",size=", FRAME_MIN);
    state.window = number_of(options, ",window=", 512);
    state.back_vlan = (unsigned)number_of(options, ",back_vlan=", 0);
    state.swapped = number_of(options, ",swapped=", 1) != 0;
    state.rate = number_of(options, ",rate=", 0);
    need((state.flow_mask & (state.flow_mask + 1)) == 0 && state.flow_mask < 65536, "flows is a power of two up to 65536");
    need(state.size >= FRAME_MIN && state.size <= FRAME_MAX, "size is 64 to 1518");
    need(state.window >= 1, "window is at least 1");
    int file = open(path, O_RDWR | O_CLOEXEC);
    need(file >= 0 && ftruncate(file, sizeof(struct generator)) == 0, "no file");
    state.shared = mmap(NULL, sizeof(struct generator), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    need(state.shared != MAP_FAILED, "the file cannot be mapped");
    close(file);
    make_model();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    need(pthread_create(&thread, NULL, watch, NULL) == 0, "no thread");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_detach(thread);
}
