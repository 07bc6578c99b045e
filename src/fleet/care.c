/* What the fleet does by itself: replicas that were lost are replaced, of volumes that ask for it. By requests, as anybody's. */
#include <stdlib.h>

#include "fleet/internal.h"

enum { CARE_S = 5 };

static void care_done(struct fleet_request *request) {
    struct fleet *fleet = request->fleet;
    struct fleet_volume *volume = fleet->stopping ? NULL : fleet_find(fleet, request->name);
    if (volume != NULL) {
        volume->caring = false;
        volume->care_ns = fleet_now_ns(fleet) + (request->error.code != ERROR_NONE ? 30 : 1) * NS_PER_S;
    }
    if (request->error.code != ERROR_NONE)
        log_warning(fleet->log, LOG_AREA_APP, "volume %s: a lost replica is not replaced: %s%s", request->name,
                    request->error.text, request->error.expected);
    free((char *)request->name);
    free((char *)request->replica);
    free(request);
}

static void care_for(struct fleet *fleet, struct fleet_volume *volume) {
    const struct control_engine *engine = fleet_engine(fleet, volume);
    int modes[FLEET_MEMBERS_MAX];
    unsigned leg, member = 0;
    if (engine == NULL || engine->state != CONTROL_RUNNING || volume->caring || fleet_now_ns(fleet) < volume->care_ns)
        return;
    for (unsigned i = 0; i < volume->record.member_count; i++)
        modes[i] = fleet_member_mode(engine, &volume->record.members[i], &leg);
    enum fleet_care care = fleet_plan_care(&volume->record, modes, &member);
    struct fleet_request *request = care == FLEET_CARE_NOTHING ? NULL : calloc(1, sizeof(*request));
    if (request == NULL)
        return;
    log_notice(fleet->log, LOG_AREA_APP, "volume %s: replica %s is lost: %s", volume->record.name,
               volume->record.members[member].name, care == FLEET_CARE_ADD ? "another one is added" : "it is given up");
    *request = (struct fleet_request){.verb = care == FLEET_CARE_ADD ? FLEET_ADD : FLEET_REMOVE,
                                      .name = strdup(volume->record.name),
                                      .replica = strdup(volume->record.members[member].name),
                                      .done = care_done};
    assert(request->name != NULL && request->replica != NULL);
    volume->caring = true;
    fleet_submit(fleet, request);
}

void fleet_care_run(struct fleet *fleet) {
    bool any = false;
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node) {
        if (!volume->record.replace || !volume->recorded)
            continue;
        any = true;
        care_for(fleet, volume);
    }
    if (any && !fleet->stopping)
        reactor_timer_start(fleet->reactor, &fleet->care_timer, fleet_now_ns(fleet) + CARE_S * NS_PER_S);
}

void fleet_care_again(struct reactor_timer *timer) { fleet_care_run(container_of(timer, struct fleet, care_timer)); }
