#include "plane_rpc/methods/mirror_object.h"

#include <stdio.h>

#include "base/text.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "plane_rpc/methods/methods.h"

bool mirror_is_shown(const struct plane_mirror *mirror) { return mirror->served; }

/* ---- as the dialect knows it ---- */

static const char *raid_state(enum mirror_state state) {
    switch (state) {
    case MIRROR_SERVING: return "online";
    case MIRROR_CONFIGURING:
    case MIRROR_STARTING: return "configuring";
    case MIRROR_HOLDING:
    case MIRROR_STANDBY:
    case MIRROR_REFUSED:
    case MIRROR_ENDED: break;
    }
    return "offline";
}

static const struct block_device *leg_device(const struct plane_mirror *mirror, unsigned index) {
    return block_graph_find(&mirror->plane->graph, mirror->status.legs[index].name);
}

/* Its legs are of one kind. */
static bool has_records(const struct plane_mirror *mirror) {
    for (unsigned i = 0; i < mirror->status.leg_count; i++) {
        const struct block_device *device = leg_device(mirror, i);
        if (device != NULL)
            return block_device_is_replica(device);
    }
    return false;
}

/* No leg keeps a record, as far as any is there. */
static bool is_plain(const struct plane_mirror *mirror) {
    bool any = false;
    for (unsigned i = 0; i < mirror->status.leg_count; i++)
        any = any || leg_device(mirror, i) != NULL;
    return any && !has_records(mirror);
}

/* It takes writes. */
static bool is_configured(enum mirror_leg_state state) { return state == MIRROR_LEG_WHOLE || state == MIRROR_LEG_SYNCING; }

static uint64_t percent(uint64_t done, uint64_t total) { return total == 0 ? 0 : min_u64(done * 100 / total, 100); }

static void put_uuid(struct json_writer *writer, const struct plane_mirror *mirror) {
    json_put_uuid(writer, "uuid", &mirror->device->uuid);
}

static void put_process(struct json_writer *writer, const struct plane_mirror *mirror) {
    for (unsigned i = 0; i < mirror->status.leg_count; i++) {
        const struct mirror_leg_status *leg = &mirror->status.legs[i];
        if (leg->state != MIRROR_LEG_SYNCING)
            continue;
        json_begin_object(writer, "process");
        json_put_string(writer, "type", "rebuild");
        json_put_string(writer, "target", leg->name);
        json_begin_object(writer, "progress");
        json_put_u64(writer, "blocks", leg->sync_done / mirror->device->block_size);
        json_put_u64(writer, "percent", percent(leg->sync_done, leg->sync_total));
        json_end(writer);
        json_end(writer);
        return; /* the dialect knows one at a time */
    }
}

void mirror_put_raid_members(struct json_writer *writer, const struct plane_mirror *mirror) {
    const struct mirror_status *status = &mirror->status;
    unsigned discovered = 0, operational = 0;
    for (unsigned i = 0; i < status->leg_count; i++) {
        discovered += is_configured(status->legs[i].state);
        operational += status->legs[i].state == MIRROR_LEG_WHOLE;
    }
    put_uuid(writer, mirror);
    json_put_u64(writer, "strip_size_kb", 0);
    json_put_string(writer, "state", raid_state(status->state));
    json_put_string(writer, "raid_level", "raid1");
    json_put_bool(writer, "superblock", has_records(mirror)); /* the record is one, beside the data */
    json_put_u64(writer, "num_base_bdevs", status->leg_count);
    json_put_u64(writer, "num_base_bdevs_discovered", discovered);
    json_put_u64(writer, "num_base_bdevs_operational", operational);
    json_put_bool(writer, "delta_bitmap_enabled", has_records(mirror));
    put_process(writer, mirror);
    json_begin_array(writer, "base_bdevs_list");
    for (unsigned i = 0; i < status->leg_count; i++) {
        const struct block_device *device = leg_device(mirror, i);
        json_begin_object(writer, NULL);
        if (status->legs[i].name[0] != '\0')
            json_put_string(writer, "name", status->legs[i].name);
        else /* the place of one that was removed */
            json_put_null(writer, "name");
        json_put_uuid(writer, "uuid", device != NULL ? &device->uuid : &(struct uuid){0});
        json_put_bool(writer, "is_configured", is_configured(status->legs[i].state));
        json_put_u64(writer, "data_offset", 0);
        json_put_u64(writer, "data_size", atomic_load(&mirror->device->block_count));
        json_end(writer);
    }
    json_end(writer);
}

/* ---- as it is ---- */

static uint64_t share(const struct plane_mirror *mirror) {
    unsigned given = mirror->options.rates.share_percent;
    return given == 0 ? MIRROR_SHARE_DEFAULT : given;
}

static void put_time(struct json_writer *writer, uint64_t wall_ns) {
    char text[TEXT_TIME_SIZE];
    json_put_string(writer, "since", text_format_time(wall_ns, text, sizeof(text)));
}

/* A monotonic time of the past as a time of day. */
static uint64_t wall_of(const struct plane_mirror *mirror, uint64_t monotonic_ns) {
    uint64_t now = reactor_now_ns(mirror->plane->control), wall = host_wall_ns(mirror->plane->host);
    return monotonic_ns == 0 || monotonic_ns > now ? wall : wall - (now - monotonic_ns);
}

#define NEXT_SIZE (3 * BLOCK_NAME_SIZE + 128)

/* What to do about a leg; "" = nothing. */
static void leg_next(const struct plane_mirror *mirror, const struct mirror_leg_status *leg, char to[NEXT_SIZE]) {
    const char *name = leg->name;
    to[0] = '\0';
    switch (leg->state) {
    case MIRROR_LEG_WHOLE:
    case MIRROR_LEG_WITNESS:
    case MIRROR_LEG_CONNECTING: break;
    case MIRROR_LEG_SYNCING:
        if (mirror->status.sync_paused)
            snprintf(to, NEXT_SIZE, "penstock block mirror resume-sync %s goes on with it", mirror->name);
        else
            snprintf(to, NEXT_SIZE, "nothing: it becomes whole by itself");
        break;
    case MIRROR_LEG_SET_ASIDE: snprintf(to, NEXT_SIZE, "look after the node or path of %s: it comes back by itself", name); break;
    case MIRROR_LEG_ABSENT:
        if (leg->unnamed)
            snprintf(to, NEXT_SIZE, "penstock block mirror add %s %s, when its device is there", mirror->name, name);
        else if (block_graph_find(&mirror->plane->graph, name) != NULL) /* it is not taken, and `why` tells why not */
            snprintf(to, NEXT_SIZE, "make another device of it, or penstock block mirror remove %s %s", mirror->name, name);
        else
            snprintf(to, NEXT_SIZE, "there is no device %s: attach its node, or open its disk", name);
        break;
    case MIRROR_LEG_FAULTED:
        snprintf(to, NEXT_SIZE, "mend or replace the disk of %s, then remove it from %s and add it again", name, mirror->name);
        break;
    case MIRROR_LEG_DIVERGED:
        if (leg->recordless) {
            snprintf(to, NEXT_SIZE,
                     "attach the right copy as %s; to give up what this one holds: penstock block mirror discard %s %s", name,
                     mirror->name, name);
            break;
        }
        if (leg->stranger) {
            snprintf(to, NEXT_SIZE,
                     "this is not the copy that was there: attach that one as %s, or penstock block mirror remove %s %s", name,
                     mirror->name, name);
            break;
        }
        snprintf(to, NEXT_SIZE, "penstock block mirror discard %s %s gives up what only it has; until then it is kept as it is",
                 mirror->name, name);
        break;
    }
}

/* Of a leg whose node does not answer: which node that is, and what it looks like from here. */
static void put_why(struct json_writer *writer, const struct plane_mirror *mirror, unsigned index) {
    const struct mirror_leg_status *leg = &mirror->status.legs[index];
    const struct block_device *device = leg_device(mirror, index);
    struct nvme_initiator_controller_info info;
    if (device == NULL || !nvme_initiator_device_is(device) || block_device_path_is_up(device) ||
        (leg->state != MIRROR_LEG_SET_ASIDE && leg->state != MIRROR_LEG_CONNECTING)) {
        json_put_string(writer, "why", leg->why);
        return;
    }
    nvme_initiator_controller_info(nvme_initiator_device_controller(device), &info);
    json_putf(writer, "why", "no path to %s:%u%s%s", info.address.text, info.address.port, info.last_loss[0] != '\0' ? ": " : "",
              info.last_loss);
}

static void put_leg(struct json_writer *writer, const struct plane_mirror *mirror, unsigned index) {
    const struct mirror_leg_status *leg = &mirror->status.legs[index];
    char next[NEXT_SIZE];
    leg_next(mirror, leg, next);
    json_begin_object(writer, NULL);
    json_put_string(writer, "name", leg->name);
    json_put_string(writer, "state", mirror_leg_state_name(leg->state));
    put_time(writer, wall_of(mirror, leg->since_ns));
    put_why(writer, mirror, index);
    json_put_string(writer, "next", next);
    json_put_u64(writer, "bytes_out_of_step", leg->behind);
    json_put_bool(writer, "bytes_out_of_step_exact", leg->behind_exact);
    if (mirror->status.state == MIRROR_STANDBY) { /* it looks about once a second */
        json_put_uuid(writer, "promised_to", &leg->promised);
        json_put_bool(writer, "held_by_another", leg->held);
    }
    if (leg->state == MIRROR_LEG_SYNCING) {
        json_begin_object(writer, "sync");
        json_put_u64(writer, "total", leg->sync_total);
        json_put_u64(writer, "done", leg->sync_done);
        json_put_u64(writer, "percent", leg->sync_percent);
        json_end(writer);
    }
    json_put_u64(writer, "verify_mismatches", mirror->status.verify.leg_mismatches[index]);
    json_put_u64(writer, "times_lost", leg->times_lost);
    json_put_u64(writer, "bytes_copied", leg->bytes_copied);
    json_end(writer);
}

static void put_verify(struct json_writer *writer, const struct plane_mirror *mirror) {
    const struct mirror_verify_status *verify = &mirror->status.verify;
    char text[TEXT_TIME_SIZE];
    json_begin_object(writer, "verify");
    json_put_string(writer, "state", mirror_verify_state_name(verify->state));
    json_put_bool(writer, "repair", verify->repair);
    json_put_bool(writer, "waits", verify->waits);
    json_put_u64(writer, "total", verify->total);
    json_put_u64(writer, "done", verify->done);
    json_put_u64(writer, "percent", percent(verify->done, verify->total));
    json_put_u64(writer, "mismatches", verify->mismatches);
    json_put_u64(writer, "repaired", verify->repaired);
    json_put_u64(writer, "undecided", verify->undecided);
    json_put_u64(writer, "skipped", verify->skipped);
    if (verify->started_ns != 0)
        json_put_string(writer, "started", text_format_time(wall_of(mirror, verify->started_ns), text, sizeof(text)));
    if (verify->ended_ns != 0)
        json_put_string(writer, "ended", text_format_time(wall_of(mirror, verify->ended_ns), text, sizeof(text)));
    if (verify->last[0] != '\0')
        json_put_string(writer, "last", verify->last);
    json_end(writer);
}

/* Whom a start waits for. */
static void put_awaited(struct json_writer *writer, const struct mirror_status *status) {
    json_begin_array(writer, "awaited");
    for (unsigned i = 0; i < status->awaited_count; i++) {
        json_begin_object(writer, NULL);
        json_put_uuid(writer, "id", &status->awaited[i].id);
        json_put_string(writer, "name", status->awaited[i].name);
        json_end(writer);
    }
    json_end(writer);
}

static void put_counters(struct json_writer *writer, const struct plane_mirror *mirror) {
    const struct mirror_status *status = &mirror->status;
    json_begin_object(writer, "counters");
    json_put_u64(writer, "changes", status->changes);
    json_put_u64(writer, "legs_set_aside", mirror->legs_set_aside);
    json_put_u64(writer, "longest_stall_ms", divide_up(status->longest_stall_ns, NS_PER_MS));
    json_put_u64(writer, "longest_stall_before_record_ms", divide_up(status->stall_before_ns, NS_PER_MS));
    json_put_string(writer, "longest_stall_leg", status->stall_leg);
    json_put_u64(writer, "verify_mismatches", status->verify.mismatches);
    json_put_u64(writer, "reads_repeated", status->reads_repeated);
    json_put_u64(writer, "unequal_regions", status->unequal_regions);
    json_put_u64(writer, "marked_regions", status->marked_regions);
    json_put_u64(writer, "events_dropped", mirror->events_dropped);
    json_end(writer);
}

void mirror_put_object(struct json_writer *writer, const struct plane_mirror *mirror) {
    const struct mirror_status *status = &mirror->status;
    json_begin_object(writer, NULL);
    json_put_string(writer, "name", mirror->name);
    put_uuid(writer, mirror);
    json_put_string(writer, "state", mirror_state_name(status->state));
    put_time(writer, mirror->since_wall_ns);
    if (status->error.code != ERROR_NONE) {
        json_begin_object(writer, "error");
        json_put_string(writer, "code", error_facts(status->error.code)->name);
        json_put_string(writer, "text", status->error.text);
        json_put_string(writer, "expected", status->error.expected);
        json_end(writer);
    }
    json_put_u64(writer, "size", block_device_size(mirror->device));
    json_put_string(writer, "policy", status->policy == REPLICA_MAJORITY ? "majority" : "any");
    json_put_uuid(writer, "engine", &status->engine);
    json_put_u64(writer, "term", status->term);
    json_begin_object(writer, "epoch");
    json_put_u64(writer, "depth", status->epoch.depth);
    json_put_uuid(writer, "id", &status->epoch.id);
    json_end(writer);
    json_put_u64(writer, "tree", status->tree);
    json_put_bool(writer, "settled", status->settled);
    json_put_bool(writer, "paused", status->paused);
    json_put_bool(writer, "sync_paused", status->sync_paused);
    json_put_u64(writer, "longest_stall_ms", mirror->options.longest_stall_ms);
    json_put_u64(writer, "hold_ms", mirror->options.hold_ms);
    json_put_u64(writer, "give_up_ms", mirror->options.give_up_ms);
    json_put_u64(writer, "bytes_per_s", mirror->options.rates.bytes_per_s);
    json_put_u64(writer, "share_percent", share(mirror));
    put_verify(writer, mirror);
    if (status->state == MIRROR_CONFIGURING)
        put_awaited(writer, status);
    json_begin_array(writer, "legs");
    for (unsigned i = 0; i < status->leg_count; i++)
        if (status->legs[i].name[0] != '\0')
            put_leg(writer, mirror, i);
    json_end(writer);
    put_counters(writer, mirror);
    json_end(writer);
}

/* ---- configuration ---- */

/* Legs without a record: which are beside others; or, if all are, one that was whole now. */
static void put_recordless(struct json_writer *writer, const struct plane_mirror *mirror) {
    const struct mirror_status *status = &mirror->status;
    bool any = false;
    for (unsigned i = 0; i < status->leg_count; i++)
        any = any || status->legs[i].foreign;
    if (any) {
        json_begin_array(writer, "foreign");
        for (unsigned i = 0; i < status->leg_count; i++)
            if (status->legs[i].foreign)
                json_put_string(writer, NULL, status->legs[i].name);
        json_end(writer);
    }
    for (unsigned i = 0; i < status->leg_count && mirror->options.source_set; i++)
        if (status->legs[i].state == MIRROR_LEG_WHOLE && !status->legs[i].foreign) {
            json_put_string(writer, "source", status->legs[i].name);
            return;
        }
}

void mirror_put_config(struct json_writer *writer, const struct plane_mirror *mirror) {
    const struct mirror_options *options = &mirror->options;
    methods_config_begin(writer, "mirror_create");
    json_put_string(writer, "name", mirror->name);
    json_begin_array(writer, "legs");
    for (unsigned i = 0; i < mirror->status.leg_count; i++)
        if (mirror->status.legs[i].name[0] != '\0')
            json_put_string(writer, NULL, mirror->status.legs[i].name);
    json_end(writer);
    put_recordless(writer, mirror);
    if (options->marked_hard)
        json_put_bool(writer, "hard_bound", true);
    json_put_string(writer, "policy", options->policy == REPLICA_MAJORITY ? "majority" : "any");
    for (unsigned i = 0; i < mirror->status.leg_count; i++)
        if (mirror->status.legs[i].state == MIRROR_LEG_WITNESS || (i < options->leg_count && options->legs[i].tie_breaker))
            json_put_string(writer, "tie_breaker", mirror->status.legs[i].name);
    if (mirror->served || !uuid_is_nil(&options->uuid))
        put_uuid(writer, mirror);
    json_put_u64(writer, "longest_stall_ms", options->longest_stall_ms);
    json_put_u64(writer, "hold_ms", options->hold_ms);
    json_put_u64(writer, "give_up_ms", options->give_up_ms);
    json_put_bool(writer, "standby", mirror->status.state == MIRROR_STANDBY || (!mirror->served && options->standby));
    json_put_u64(writer, "bytes_per_s", options->rates.bytes_per_s);
    json_put_u64(writer, "share_percent", share(mirror));
    json_put_bool(writer, "assume_equal", options->assume_equal || (options->plain_equal && is_plain(mirror)));
    json_put_bool(writer, "wait", false);
    methods_config_end(writer);
}
