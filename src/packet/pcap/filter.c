#include "packet/pcap/filter.h"

#include <pcap/pcap.h>
#include <stdlib.h>

struct pcap_filter {
    struct capture_filter filter;
    struct bpf_program program;
};

static bool filter_match(const struct capture_filter *base, const uint8_t *data, uint32_t length, uint32_t here) {
    const struct pcap_filter *filter = container_of(base, const struct pcap_filter, filter);
    return bpf_filter(filter->program.bf_insns, data, length, here) != 0;
}

static void filter_destroy(struct capture_filter *base) {
    struct pcap_filter *filter = container_of(base, struct pcap_filter, filter);
    pcap_freecode(&filter->program);
    free(filter);
}

bool pcap_capture_filter_create(const char *text, struct capture_filter **ret_filter, struct error *error) {
    pcap_t *card = pcap_open_dead(DLT_EN10MB, CAPTURE_SNAP_MAX);
    struct pcap_filter *filter = calloc(1, sizeof(*filter));
    if (card == NULL || filter == NULL) {
        free(filter);
        if (card != NULL)
            pcap_close(card);
        return error_set(error, ERROR_NO_MEMORY, "no memory for a filter");
    }
    bool ok = pcap_compile(card, &filter->program, text, 1, PCAP_NETMASK_UNKNOWN) == 0 ||
              error_invalid(error, "filter", text, "what pcap-filter(7) says: %s", pcap_geterr(card));
    pcap_close(card);
    if (!ok) {
        free(filter);
        return false;
    }
    filter->filter = (struct capture_filter){.match = filter_match, .destroy = filter_destroy};
    *ret_filter = &filter->filter;
    return true;
}
