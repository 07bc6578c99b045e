/* The packet plane without drivers: what a frame costs. Arguments: entries, frames, and what: `classify`, from a driver's array
 * to the arrays of the outputs; `classify_flushed`, the same with frames that are in no cache; `read_flushed`, only a look at
 * them, which is what the memory takes; `plan`, all of a worker's run, with popped tags and all counting. Prints JSON: cycles of
 * the time stamp counter a frame, a value for each of nine passes. Frames are laid out as a driver's pool does, and come in
 * random order of buffers and flows; a frame's first line is its driver's, who has always just written it. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "base/random.h"
#include "packet/model.h"

enum { STRIDE = 2368, HEADROOM = 128, FRAME = 64, OUTPUTS = 32, PASSES = 9 };

struct array_port {
    struct packet_port port;
    struct packet **frames;
    unsigned count, next;
    uint64_t sent;
};

static unsigned array_receive(struct packet_port *base, struct packet **ret_packets, unsigned capacity) {
    struct array_port *port = container_of(base, struct array_port, port);
    unsigned count = min_u32(capacity, port->count - port->next);
    memcpy(ret_packets, port->frames + port->next, count * sizeof(*ret_packets));
    port->next += count;
    return count;
}
static unsigned array_send(struct packet_port *base, struct packet **packets, unsigned count) {
    (void)packets;
    container_of(base, struct array_port, port)->sent += count;
    return count;
}

static void never_free(struct packet_memory *memory, struct packet *const *packets, unsigned count) {
    (void)memory, (void)packets;
    if (count > 0)
        abort(); /* every frame has an entry */
}

static const struct packet_port_ops ops = {.receive = array_receive, .send = array_send};

static void port_init(struct array_port *port, const char *name) {
    port->port.ops = &ops;
    snprintf(port->port.name, sizeof(port->port.name), "%s", name);
}

static void need(bool ok, const struct error *error) {
    if (!ok) {
        fprintf(stderr, "packet_classify: %s\n", error->text);
        exit(1);
    }
}

static struct model *make_model(unsigned entries, struct array_port *in, struct array_port *outs) {
    struct model *model = model_create();
    struct error error;
    char name[32];
    port_init(in, "in");
    need(model_add_component(model, "c", COMPONENT_CLASSIFIER, 0, &error) && model_add_port(model, &in->port, &error) &&
             model_attach(model, "c", "in", PORT_DIRECTION_RX, (struct vlan_operation){0}, false, &error),
         &error);
    for (unsigned i = 0; i < OUTPUTS; i++) {
        snprintf(name, sizeof(name), "out%u", i);
        port_init(&outs[i], name);
        need(model_add_port(model, &outs[i].port, &error) &&
                 model_attach(model, "c", name, PORT_DIRECTION_TX, (struct vlan_operation){.action = VLAN_ACTION_DEL}, false,
                              &error),
             &error);
    }
    for (unsigned i = 0; i < entries; i++) {
        char mac[32];
        snprintf(mac, sizeof(mac), "fa:16:3e:00:%02x:%02x", i >> 8 & 0xff, i & 0xff);
        snprintf(name, sizeof(name), "out%u", i % OUTPUTS);
        need(model_add_entry(model, "c", mac, 100 + i % 50, name, &error), &error);
    }
    return model;
}

/* As it came from the wire. */
static void write_frame(struct packet *packet, unsigned flow) {
    static const uint8_t rest[] = {2, 0, 0, 0, 0, 1, 0x81, 0};
    packet->data_offset = HEADROOM;
    packet->first_length = FRAME;
    packet->length = FRAME;
    uint8_t *data = packet_data(packet);
    const uint8_t address[] = {0xfa, 0x16, 0x3e, 0, (uint8_t)(flow >> 8), (uint8_t)flow};
    memcpy(data, address, sizeof(address));
    memcpy(data + 6, rest, sizeof(rest));
    put_be16(data + 14, (uint16_t)(100 + flow % 50));
    put_be16(data + 16, 0x0800);
}

/* What a driver does to frames that have come. Returns when it is done. */
static void receive(struct packet **frames, bool flush) {
    for (unsigned i = 0; i < PACKET_BURST; i++) {
        frames[i]->data_offset = HEADROOM;
        frames[i]->first_length = FRAME;
        frames[i]->length = FRAME;
        if (flush)
            _mm_clflush(packet_data(frames[i]));
    }
    _mm_mfence();
}

static uint64_t ticks(void) {
    _mm_lfence();
    uint64_t now = __rdtsc();
    _mm_lfence();
    return now;
}

/* Without ends. Returns the cycles of all. `only_read`: nothing but a look at each frame. */
static uint64_t classify_all(const struct plan *plan, struct plan_scratch *scratch, struct array_port *in, bool flush,
                             bool only_read) {
    const struct plan_component *component = &plan->components[0];
    uint64_t sum = 0;
    for (; in->next + PACKET_BURST <= in->count; in->next += PACKET_BURST) {
        struct packet **frames = in->frames + in->next;
        receive(frames, flush);
        uint64_t begin = ticks();
        for (unsigned i = 0; i < PACKET_BURST; i++)
            __builtin_prefetch(packet_data(frames[i])); /* as the run does when it looks for short frames */
        if (only_read)
            for (unsigned i = 0; i < PACKET_BURST; i++)
                (void)*(volatile uint8_t *)packet_data(frames[i]);
        else
            component_run(component, component->inputs, scratch, frames, PACKET_BURST);
        sum += ticks() - begin;
        for (unsigned i = 0; i < OUTPUTS; i++) {
            in->sent += scratch->counts[i];
            scratch->counts[i] = 0;
        }
        in->sent += only_read ? PACKET_BURST : 0;
    }
    return sum;
}

static uint64_t run_all(const struct plan *plan, struct plan_scratch *scratch) {
    uint64_t begin = ticks();
    while (plan_run(plan, scratch) > 0)
        ;
    return ticks() - begin;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 64;
    bool plan = strcmp(argv[3], "plan") == 0, flush = strstr(argv[3], "flushed") != NULL,
         only_read = strncmp(argv[3], "read", 4) == 0;
    unsigned entries = (unsigned)strtoul(argv[1], NULL, 10), frames = (unsigned)strtoul(argv[2], NULL, 10);
    struct array_port *in = calloc(1, sizeof(*in)), *outs = calloc(OUTPUTS, sizeof(*outs));
    size_t size = round_up((size_t)frames * STRIDE, MIB(2));
    uint8_t *pool = aligned_alloc(MIB(2), size);
    struct plan_scratch *scratch = calloc(1, sizeof(*scratch));
    struct packet_memory memory = {.free = never_free};
    struct model_plans plans;
    struct random random;
    if (in == NULL || outs == NULL || pool == NULL || scratch == NULL)
        return 71;
    in->frames = calloc(frames, sizeof(*in->frames));
    unsigned *flows = calloc(frames, sizeof(*flows));
    if (in->frames == NULL || flows == NULL)
        return 71;
    struct model *model = make_model(entries, in, outs);
    if (!model_compile(model, &plans))
        return 71;
    madvise(pool, size, MADV_HUGEPAGE);
    random_init(&random, 1);
    for (unsigned i = 0; i < frames; i++) {
        struct packet *packet = (struct packet *)(pool + (size_t)i * STRIDE);
        memset(packet, 0, sizeof(*packet));
        packet->buffer = (uint8_t *)packet + 128;
        packet->buffer_size = STRIDE - 128;
        in->frames[i] = packet;
        flows[i] = (unsigned)random_below(&random, entries);
    }
    for (unsigned i = frames; i > 1; i--) { /* as a pool is after a while */
        unsigned other = (unsigned)random_below(&random, i);
        struct packet *packet = in->frames[i - 1];
        in->frames[i - 1] = in->frames[other];
        in->frames[other] = packet;
    }
    scratch->memory = &memory;
    in->count = frames;
    printf("{\"cycles\": [");
    for (unsigned pass = 0; pass < PASSES; pass++) {
        for (unsigned i = 0; i < frames; i++)
            write_frame(in->frames[i], flows[i]);
        in->next = 0;
        uint64_t took = plan ? run_all(&plans.plans[0], scratch) : classify_all(&plans.plans[0], scratch, in, flush, only_read);
        printf("%s%.2f", pass == 0 ? "" : ", ", (double)took / frames);
    }
    printf("]}\n");
    uint64_t sent = in->sent;
    for (unsigned i = 0; i < OUTPUTS; i++)
        sent += outs[i].sent;
    return sent == (uint64_t)PASSES * frames ? 0 : 1;
}
