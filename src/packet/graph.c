#include "packet/graph.h"

#include "packet/capture.h"

static void drop(const struct plan_component *component, struct plan_scratch *scratch, struct packet *packet,
                 enum packet_drop reason) {
    packet_count(&component->counters->drops[reason], 1);
    scratch->memory->free(scratch->memory, &packet, 1);
}

static inline void emit(struct plan_scratch *scratch, unsigned output, struct packet *packet) {
    scratch->packets[output][scratch->counts[output]++] = packet;
}

static void emit_copy(const struct plan_component *component, struct plan_scratch *scratch, unsigned output,
                      const struct packet *packet) {
    struct packet *copy = scratch->memory->copy(scratch->memory, packet);
    if (copy == NULL) {
        packet_count(&component->counters->drops[PACKET_DROP_NO_MEMORY], 1);
        return;
    }
    packet_count(&component->counters->copies, 1);
    emit(scratch, output, copy);
}

/* ---- classifier ---- */

static void classify_group(const struct plan_component *component, struct plan_scratch *scratch, struct packet *packet,
                           unsigned vlan) {
    not_zeroed uint16_t outputs[PACKET_OUTPUTS_MAX];
    unsigned count = table_find_members(component->table, vlan, outputs, component->output_count);
    if (count == 0) {
        drop(component, scratch, packet, PACKET_DROP_NO_MEMBER);
        return;
    }
    for (unsigned i = 1; i < count; i++)
        emit_copy(component, scratch, outputs[i], packet);
    emit(scratch, outputs[0], packet);
}

/* What has no entry of its own. */
static __attribute__((noinline)) void classify_unknown(const struct plan_component *component, struct plan_scratch *scratch,
                                                       struct packet *packet, uint64_t key, uint32_t output) {
    unsigned vlan = key >> 48 & 0x1fff;
    if (output == TABLE_DETACHED) {
        drop(component, scratch, packet, PACKET_DROP_DETACHED);
        return;
    }
    if (ethernet_address_is_group(key)) {
        classify_group(component, scratch, packet, vlan);
        return;
    }
    output = table_find_default(component->table, vlan);
    if (output == TABLE_DETACHED) {
        drop(component, scratch, packet, PACKET_DROP_DETACHED);
        return;
    }
    if (output == TABLE_NOWHERE) {
        drop(component, scratch, packet, table_has_vlan(component->table, vlan) ? PACKET_DROP_NO_ENTRY : PACKET_DROP_NO_VLAN);
        return;
    }
    packet_count(&component->counters->unknown, 1);
    emit(scratch, output, packet);
}

/* The key a frame is looked up by. */
static inline uint64_t classify_key(const struct table *table, const struct packet *packet) {
    const uint8_t *data = packet_data(packet);
    unsigned vlan = TABLE_UNTAGGED;
    if (packet_is_tagged(packet)) {
        vlan = vlan_tag_vid(packet_tag(packet));
        if (unlikely(vlan == 0) && !table_has_vlan(table, 0))
            vlan = TABLE_UNTAGGED;
    }
    return table_key(ethernet_address_read(data), vlan);
}

static void classify(const struct plan_component *component, struct plan_scratch *scratch, struct packet **packets,
                     unsigned count) {
    const struct table *table = component->table;
    const struct table_hash hash = table->hash; /* ours alone: no write to a frame can change it */
    const unsigned output_count = component->output_count;
    not_zeroed uint64_t keys[PACKET_BURST];
    not_zeroed const struct table_slot *slots[PACKET_BURST];
    /* Two passes, so that the slots of all are on their way from memory before the first is looked at. */
    for (unsigned i = 0; i < count; i++) {
        keys[i] = classify_key(table, packets[i]);
        slots[i] = table_slot_of(&hash, keys[i]);
        __builtin_prefetch(slots[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        uint32_t output = table_find_from(slots[i], keys[i]);
        if (likely(output < output_count))
            emit(scratch, output, packets[i]);
        else
            classify_unknown(component, scratch, packets[i], keys[i], output);
    }
}

/* ---- turning round ---- */

/* What a merge of a card may have for a neighbour: to the classifier, which knows who must not hear itself. */
static void merge_with_hairpin(const struct plan_component *component, struct plan_scratch *scratch, struct packet **packets,
                               unsigned count) {
    const struct table *table = component->table;
    for (unsigned i = 0; i < count; i++) {
        uint64_t key = classify_key(table, packets[i]);
        bool here = table_find(table, key) < TABLE_DETACHED;
        if (here && !ethernet_address_is_group(key)) {
            emit(scratch, component->hairpin_output, packets[i]);
            continue;
        }
        if (ethernet_address_is_group(key) && table_has_vlan(table, key >> 48 & 0x1fff))
            emit_copy(component, scratch, component->hairpin_output, packets[i]);
        emit(scratch, component->main_output, packets[i]);
    }
}

/* From a neighbour: to entries only, and never back. */
static void classify_hairpin(const struct plan_component *component, struct plan_scratch *scratch, struct packet **packets,
                             unsigned count) {
    const struct table *table = component->table;
    for (unsigned i = 0; i < count; i++) {
        not_zeroed uint16_t outputs[PACKET_OUTPUTS_MAX];
        uint64_t key = classify_key(table, packets[i]);
        uint64_t own_key = table_key(ethernet_address_read(packet_data(packets[i]) + 6), key >> 48 & 0x1fff);
        uint32_t own = table_find(table, own_key), output = table_find(table, key);
        unsigned found = 0, left = 0;
        if (output < TABLE_DETACHED)
            outputs[found++] = (uint16_t)output;
        else if (output == TABLE_NOWHERE && ethernet_address_is_group(key))
            found = table_find_members(table, key >> 48 & 0x1fff, outputs, component->output_count);
        for (unsigned n = 0; n < found; n++)
            if (outputs[n] != own)
                outputs[left++] = outputs[n];
        if (left == 0) {
            drop(component, scratch, packets[i], output == TABLE_DETACHED ? PACKET_DROP_DETACHED : PACKET_DROP_HAIRPIN);
            continue;
        }
        for (unsigned n = 1; n < left; n++)
            emit_copy(component, scratch, outputs[n], packets[i]);
        emit(scratch, outputs[0], packets[i]);
    }
}

void component_run(const struct plan_component *component, const struct plan_end *input, struct plan_scratch *scratch,
                   struct packet **packets, unsigned count) {
    switch (component->type) {
    case COMPONENT_CLASSIFIER:
        if (unlikely(input->hairpin))
            classify_hairpin(component, scratch, packets, count);
        else
            classify(component, scratch, packets, count);
        break;
    case COMPONENT_MERGE:
        if (component->table != NULL) {
            merge_with_hairpin(component, scratch, packets, count);
            break;
        }
        for (unsigned i = 0; i < count; i++)
            emit(scratch, component->main_output, packets[i]);
        break;
    case COMPONENT_MIRROR:
        for (unsigned i = 0; i < count; i++)
            emit_copy(component, scratch, 1, packets[i]);
        __attribute__((fallthrough));
    default:
        for (unsigned i = 0; i < count; i++)
            emit(scratch, 0, packets[i]);
    }
}

/* ---- ends ---- */

/* Carries the operation out on all; those that cannot take it end here. Returns how many are left. */
static unsigned apply_vlan(const struct plan_component *component, struct plan_scratch *scratch,
                           const struct vlan_operation *operation, struct packet **packets, unsigned count) {
    if (operation->action == VLAN_ACTION_NONE)
        return count;
    unsigned left = 0;
    for (unsigned i = 0; i < count; i++) {
        if (likely(packet_apply_vlan(packets[i], operation)))
            packets[left++] = packets[i];
        else
            drop(component, scratch, packets[i], PACKET_DROP_NO_HEADROOM);
    }
    return left;
}

/* Frames from outside: the others have a header that can be looked at. */
static unsigned sort_out_short(const struct plan_component *component, struct plan_scratch *scratch, struct packet **packets,
                               unsigned count, uint64_t *ret_bytes) {
    unsigned left = 0;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        __builtin_prefetch(packet_data(packets[i]));
    for (unsigned i = 0; i < count; i++) {
        bytes += packets[i]->length;
        if (likely(packets[i]->first_length >= ETHERNET_HEADER_SIZE))
            packets[left++] = packets[i];
        else
            drop(component, scratch, packets[i], PACKET_DROP_SHORT);
    }
    *ret_bytes = bytes;
    return left;
}

/* ---- policies ---- */

static void refuse(struct plan_scratch *scratch, struct packet_port_counters *counters, struct packet *packet,
                   enum port_drop reason) {
    packet_count(&counters->drops[reason], 1);
    scratch->memory->free(scratch->memory, &packet, 1);
}

static __attribute__((noinline)) unsigned limit(const struct policy_rate *rate, struct policy_budget *budget,
                                                struct packet_port_counters *counters, struct plan_scratch *scratch,
                                                struct packet **packets, unsigned count) {
    unsigned left = 0;
    policy_refill(rate, budget, scratch->now_ns);
    for (unsigned i = 0; i < count; i++) {
        if (policy_take(rate, budget, packets[i]->length))
            packets[left++] = packets[i];
        else
            refuse(scratch, counters, packets[i], PORT_DROP_OVER_RATE);
    }
    return left;
}

static bool has_limit(const struct policy_rate *rate) { return rate->bits_per_s != 0 || rate->packets_per_s != 0; }

/* What may come in by the port. */
static __attribute__((noinline)) unsigned check_policy(const struct policy *policy, struct packet_port *port,
                                                       struct plan_scratch *scratch, struct packet **packets, unsigned count) {
    unsigned left = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!policy_allows_mac(policy, packets[i]))
            refuse(scratch, &port->received, packets[i], PORT_DROP_SPOOFED_MAC);
        else if (!policy_allows_tag(policy, packets[i]))
            refuse(scratch, &port->received, packets[i], PORT_DROP_SPOOFED_VLAN);
        else
            packets[left++] = packets[i];
    }
    if (has_limit(&policy->rx))
        left = limit(&policy->rx, &port->receive_budget, &port->received, scratch, packets, left);
    return left;
}

static unsigned run_input(const struct plan_component *component, struct plan_scratch *scratch, const struct plan_end *input) {
    not_zeroed struct packet *packets[PACKET_BURST];
    unsigned received = input->port->ops->receive(input->port, packets, PACKET_BURST);
    if (received == 0)
        return 0;
    uint64_t bytes;
    if (unlikely(input->capture != NULL))
        capture_frames(input->capture, CAPTURE_RX, scratch->now_ns, packets, received);
    unsigned count = sort_out_short(component, scratch, packets, received, &bytes);
    packet_count(&input->port->received.packets, received);
    packet_count(&input->port->received.bytes, bytes);
    packet_count(&component->counters->packets, received);
    if (unlikely(input->policy != NULL))
        count = check_policy(input->policy, input->port, scratch, packets, count);
    count = apply_vlan(component, scratch, &input->vlan, packets, count);
    component_run(component, input, scratch, packets, count);
    return received;
}

static void flush_output(const struct plan_component *component, struct plan_scratch *scratch, unsigned index) {
    const struct plan_end *output = &component->outputs[index];
    struct packet **packets = scratch->packets[index];
    unsigned count = apply_vlan(component, scratch, &output->vlan, packets, scratch->counts[index]);
    scratch->counts[index] = 0;
    if (unlikely(output->policy != NULL) && has_limit(&output->policy->tx))
        count = limit(&output->policy->tx, &output->port->send_budget, &output->port->sent, scratch, packets, count);
    if (count == 0)
        return;
    if (unlikely(output->capture != NULL))
        capture_frames(output->capture, CAPTURE_TX, scratch->now_ns, packets, count);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += packets[i]->length; /* a frame that was sent is not ours to look at */
    unsigned sent = output->port->ops->send(output->port, packets, count);
    for (unsigned i = sent; i < count; i++)
        bytes -= packets[i]->length;
    packet_count(&output->port->sent.packets, sent);
    packet_count(&output->port->sent.bytes, bytes);
    if (unlikely(sent < count)) {
        packet_count(&output->port->sent.full, count - sent);
        scratch->memory->free(scratch->memory, packets + sent, count - sent);
    }
}

unsigned plan_run(const struct plan *plan, struct plan_scratch *scratch) {
    unsigned received = 0;
    for (unsigned i = 0; i < plan->component_count; i++) {
        const struct plan_component *component = &plan->components[i];
        for (unsigned n = 0; n < component->input_count; n++) {
            unsigned came = run_input(component, scratch, &component->inputs[n]);
            if (came == 0)
                continue;
            received += came;
            for (unsigned o = 0; o < component->output_count; o++)
                if (scratch->counts[o] != 0)
                    flush_output(component, scratch, o);
        }
    }
    return received;
}
