#include "host.h"

#include <stdio.h>

#include "block/device.h"

/* ---- writing ---- */

static void fill(uint8_t *buffer, uint32_t value) {
    for (size_t i = 0; i < BLOCK_BYTES / sizeof(value); i++)
        memcpy(buffer + i * sizeof(value), &value, sizeof(value));
}

static void write_next(struct writer *writer);
static void write_again(struct reactor_timer *timer);

static void write_done(struct block_request *request) {
    struct writer *writer = container_of(request, struct writer, request);
    struct sim_client *client = writer->client;
    struct write *write = &client->writes[writer->value];
    if (request->status == IO_OK) {
        write->answered = true;
        write->answered_ns = sim_now_ns(client->ground->sim);
        writer->answered++;
        if (writer->first_answered_ns == 0)
            writer->first_answered_ns = sim_now_ns(client->ground->sim);
        for (const struct writer *newer = writer + 1; newer < client->writers + client->writer_count; newer++)
            if (newer->volume == writer->volume && newer->first_answered_ns != 0 && write->begun_ns > newer->first_answered_ns)
                ground_fail(client->ground, "write %u by way of %s was answered, begun %.6f s after one by way of %s was",
                            writer->value, writer->name, (double)(write->begun_ns - newer->first_answered_ns) / 1e9, newer->name);
    }
    if (writer->stopped) {
        writer->idle = true;
    } else if (writer->pause_ns == 0) {
        write_next(writer);
    } else {
        writer->retry.run = write_again;
        reactor_timer_start(client->reactor, &writer->retry, reactor_now_ns(client->reactor) + writer->pause_ns);
    }
}

static void write_again(struct reactor_timer *timer) {
    struct writer *writer = container_of(timer, struct writer, retry);
    if (writer->stopped)
        writer->idle = true;
    else
        write_next(writer);
}

static void write_next(struct writer *writer) {
    struct sim_client *client = writer->client;
    assert_true(client->write_count < WRITES_MAX);
    writer->value = client->write_count++;
    struct write *write = &client->writes[writer->value];
    *write = (struct write){.block = (uint32_t)ground_draw(client->ground, BLOCKS),
                            .volume = writer->volume,
                            .begun_ns = sim_now_ns(client->ground->sim)};
    fill(writer->buffer, writer->value);
    writer->slice = (struct slice){.base = writer->buffer, .length = BLOCK_BYTES};
    writer->request = (struct block_request){.op = BLOCK_WRITE,
                                             .flags = BLOCK_FUA,
                                             .slices = &writer->slice,
                                             .slice_count = 1,
                                             .offset = (uint64_t)write->block * BLOCK_BYTES,
                                             .length = BLOCK_BYTES,
                                             .complete = write_done};
    block_submit(writer->channel, &writer->request);
}

static void writer_retry(struct reactor_timer *timer) {
    struct writer *writer = container_of(timer, struct writer, retry);
    if (!writer->stopped || writer->checked)
        nvme_initiator_attach(writer->client->initiator, &writer->attach);
}

static void attached(struct nvme_initiator_attach *attach) {
    struct writer *writer = container_of(attach, struct writer, attach);
    struct sim_client *client = writer->client;
    struct error error;
    char name[32];
    if (!attach->ok) { /* it died right now: a host tries on */
        writer->retry.run = writer_retry;
        reactor_timer_start(client->reactor, &writer->retry, reactor_now_ns(client->reactor) + 200 * NS_PER_MS);
        return;
    }
    snprintf(name, sizeof(name), "%sn1", writer->name);
    struct block_device *device = block_graph_find(&client->graph, name);
    if (device == NULL)
        ground_fail(client->ground, "%s has no namespace", writer->name);
    writer->handle.owner = "the host";
    if (!block_handle_open(&writer->handle, device, BLOCK_MODE_WRITE, &error))
        fail_msg("%s", error.text);
    writer->channel = block_channel_open(&writer->handle);
    assert_non_null(writer->channel);
    write_next(writer);
}

static void writer_run(struct reactor_message *message) {
    struct writer *writer = container_of(message, struct writer, begin);
    nvme_initiator_attach(writer->client->initiator, &writer->attach);
}

struct writer *sim_client_write(struct sim_client *client, unsigned volume, const char *subnqn, const struct machine *machine,
                                uint16_t port, uint64_t pause_ns) {
    assert_true(client->writer_count < WRITERS_MAX);
    struct writer *writer = &client->writers[client->writer_count];
    *writer = (struct writer){.client = client, .index = client->writer_count++, .volume = volume, .pause_ns = pause_ns};
    writer->buffer = plain_alloc(BLOCK_BYTES);
    snprintf(writer->name, sizeof(writer->name), "w%u", writer->index);
    snprintf(writer->subnqn, sizeof(writer->subnqn), "%s", subnqn);
    snprintf(writer->hostnqn, sizeof(writer->hostnqn), "nqn.2014-08.org.nvmexpress:host-w%u", writer->index);
    writer->attach = (struct nvme_initiator_attach){.name = writer->name,
                                                    .subnqn = writer->subnqn,
                                                    .hostnqn = writer->hostnqn,
                                                    .address = {.family = HOST_IPV4, .port = port},
                                                    .loss_set = true,
                                                    .loss = {.ctrlr_loss_timeout_ms = -1, .reconnect_delay_ms = 200},
                                                    .done = attached};
    memcpy(writer->attach.address.text, machine->address, sizeof(machine->address));
    writer->begin.run = writer_run;
    reactor_post(client->reactor, &writer->begin);
    return writer;
}

bool writer_has_written(void *arg) { return ((struct writer *)arg)->answered > 0; }
void writer_stop(struct writer *writer) { writer->stopped = true; }

/* ---- life ---- */

void sim_client_start(struct sim_client *client, struct ground *ground) {
    struct error error;
    *client = (struct sim_client){.ground = ground, .write_count = 1};
    client->writes = plain_alloc(WRITES_MAX * sizeof(*client->writes));
    client->node = sim_node_create(ground->sim, "host", "10.0.0.9");
    client->process = process_start(ground, client->node);
    process_enter(client->process);
    struct reactor_options options = {.name = "host", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    assert_int_equal(reactor_create(client->process->host, &options, &client->reactor), 0);
    reactor_enter(client->reactor);
    block_graph_init(&client->graph, client->process->host, 1);
    if (!nvme_initiator_create(&client->graph, client->reactor, &client->initiator, &error))
        fail_msg("%s", error.text);
    reactor_enter(NULL);
    assert_int_equal(reactor_start(client->reactor), 0);
    process_enter(NULL);
}

void sim_client_end(struct sim_client *client) { sim_node_power_off(client->node); }

void sim_client_release(struct sim_client *client) {
    for (unsigned i = 0; i < client->writer_count; i++)
        plain_free(client->writers[i].buffer);
    plain_free(client->writes);
}

/* ---- reading all back ---- */

static void read_next(struct writer *writer);

static bool is_of(const struct sim_client *client, uint32_t write, unsigned volume, uint32_t block) {
    return client->writes[write].volume == volume && client->writes[write].block == block;
}

static void read_done(struct block_request *request) {
    struct writer *writer = container_of(request, struct writer, request);
    struct sim_client *client = writer->client;
    uint32_t found, block = writer->value, last = 0;
    memcpy(&found, writer->buffer, sizeof(found));
    if (request->status != IO_OK)
        ground_fail(client->ground, "block %u of %s cannot be read: status %d", block, writer->subnqn, request->status);
    for (size_t i = 0; i < BLOCK_BYTES / sizeof(found); i++)
        assert_memory_equal(writer->buffer + i * sizeof(found), &found, sizeof(found));
    for (uint32_t i = 1; i < client->write_count; i++)
        if (is_of(client, i, writer->volume, block) && client->writes[i].answered &&
            client->writes[i].answered_ns < writer->read_begun_ns) /* another writer's last one may have come since */
            last = i;
    bool known = found == 0 || (found < client->write_count && is_of(client, found, writer->volume, block));
    if (!known || found < last)
        ground_fail(client->ground, "block %u of %s holds write %u, answered was %u", block, writer->subnqn, found, last);
    writer->value++;
    if (writer->value < BLOCKS)
        read_next(writer);
    else
        writer->read_done = true;
}

static void read_next(struct writer *writer) {
    writer->read_begun_ns = sim_now_ns(writer->client->ground->sim);
    writer->slice = (struct slice){.base = writer->buffer, .length = BLOCK_BYTES};
    writer->request = (struct block_request){.op = BLOCK_READ,
                                             .slices = &writer->slice,
                                             .slice_count = 1,
                                             .offset = (uint64_t)writer->value * BLOCK_BYTES,
                                             .length = BLOCK_BYTES,
                                             .complete = read_done};
    block_submit(writer->channel, &writer->request);
}

static void read_begin(struct reactor_message *message) {
    struct writer *writer = container_of(message, struct writer, begin);
    writer->value = 0;
    read_next(writer);
}

static bool is_idle(void *arg) { return ((struct writer *)arg)->idle; }
static bool is_read(void *arg) { return ((struct writer *)arg)->read_done; }

void writer_check(struct writer *writer) {
    struct ground *ground = writer->client->ground;
    writer->checked = true;
    ground_wait(ground, is_idle, writer, 60 * NS_PER_S, "the last write");
    writer->begin.run = read_begin;
    reactor_post(writer->client->reactor, &writer->begin);
    ground_wait(ground, is_read, writer, 60 * NS_PER_S, "all blocks to be read");
}
