/* Workers, and the cores that a card with its machines is given. */
#include <stdio.h>

#include "packet/model.h"

const struct model_vf *model_find_vf(const struct model *model, uint32_t id, struct error *error) {
    for (unsigned i = 0; i < MODEL_VFS_MAX; i++)
        if (model->vfs[i].exists && model->vfs[i].id == id)
            return &model->vfs[i];
    error_set(error, ERROR_NO_DEVICE, "there is no vf %u", id);
    error_hint(error, "packet_get_vfs");
    return NULL;
}

static uint64_t worker_cores(const struct model_vf *vf) { return vf->mask & (vf->mask - 1); }

bool model_find_worker(const struct model *model, uint32_t id, uint32_t core, unsigned *ret_worker, struct error *error) {
    const struct model_vf *vf = model_find_vf(model, id, error);
    if (vf == NULL)
        return false;
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++)
        if (model->workers[i].exists && model->workers[i].vf == (unsigned)(vf - model->vfs) && model->workers[i].core == core) {
            *ret_worker = i;
            return true;
        }
    char value[16], text[CORES_TEXT_SIZE];
    snprintf(value, sizeof(value), "%u", core);
    return error_invalid(error, "core", value, "one of the cores %s of vf %u%s", cores_format(worker_cores(vf), text), id,
                         core == model_vf_master(vf) ? ": this one is its master core" : "");
}

static bool add_worker(struct model *model, const struct model_worker *worker, struct error *error) {
    unsigned i = 0;
    while (i < MODEL_WORKERS_MAX && model->workers[i].exists)
        i++;
    if (i == MODEL_WORKERS_MAX)
        return error_set(error, ERROR_NO_MEMORY, "there are %u workers already: no more", MODEL_WORKERS_MAX);
    model->workers[i] = *worker;
    return true;
}

bool model_add_worker(struct model *model, int cpu, struct error *error) {
    struct model_worker worker = {.exists = true, .vf = MODEL_VFS_MAX, .core = cpu < 0 ? 0 : (unsigned)cpu, .cpu = cpu};
    return add_worker(model, &worker, error);
}

static bool check_mask(const struct model *model, const struct model_vf *vf, const char *text, struct error *error) {
    uint64_t cores = worker_cores(vf);
    unsigned count = (unsigned)__builtin_popcountll(cores);
    uint64_t needed = (uint64_t)vf->vhosts * 2 + 2;
    if (count == 0)
        return error_invalid(error, "core_mask", text, "a core beside the master core %u", model_vf_master(vf));
    if (vf->vhosts > 0 && !vf->share && count < needed)
        return error_invalid(error, "core_mask", text,
                             "%llu cores beside the master core %u: two for each of %u machines, and two",
                             (unsigned long long)needed, model_vf_master(vf), vf->vhosts);
    for (unsigned i = 0; i < MODEL_VFS_MAX; i++) {
        const struct model_vf *other = &model->vfs[i];
        char shared[CORES_TEXT_SIZE];
        if (!other->exists)
            continue;
        if (other->id == vf->id)
            return error_set(error, ERROR_EXISTS, "there is a vf %u already", vf->id);
        if ((worker_cores(other) & cores) != 0 && !(vf->share && other->share))
            return error_set(error, ERROR_BUSY, "cores %s are vf %u's", cores_format(worker_cores(other) & cores, shared),
                             other->id) ||
                   error_hint(error, "cores of its own, or share in both");
    }
    return true;
}

bool model_add_vf(struct model *model, const struct model_vf *vf, const struct cores_map *map, bool (*cpu_is_there)(int cpu),
                  struct error *error) {
    char text[24];
    snprintf(text, sizeof(text), "0x%llx", (unsigned long long)vf->mask);
    assert(vf->mask != 0);
    for (unsigned core = 0; core < CORES_MAX; core++) {
        int cpu = cores_cpu(map, core);
        if ((vf->mask >> core & 1) != 0 && (cpu < 0 || !cpu_is_there(cpu)))
            return error_invalid(error, "core_mask", text, "cores that are here: there is no core %u%s", core,
                                 map->given ? " on the map" : "");
    }
    unsigned i = 0;
    while (i < MODEL_VFS_MAX && model->vfs[i].exists)
        i++;
    if (!check_mask(model, vf, text, error))
        return false;
    if (i == MODEL_VFS_MAX)
        return error_set(error, ERROR_NO_MEMORY, "there are %u vfs already: no more", MODEL_VFS_MAX);
    model->vfs[i] = *vf;
    model->vfs[i].exists = true;
    for (unsigned core = 0; core < CORES_MAX; core++) {
        struct model_worker worker = {.exists = true, .vf = i, .core = core, .cpu = cores_cpu(map, core)};
        if ((worker_cores(vf) >> core & 1) != 0 && !add_worker(model, &worker, error))
            return false;
    }
    return true;
}

bool model_remove_vf(struct model *model, uint32_t id, struct error *error) {
    const struct model_vf *vf = model_find_vf(model, id, error);
    if (vf == NULL)
        return false;
    unsigned index = (unsigned)(vf - model->vfs);
    for (unsigned i = 0; i < model->component_count; i++)
        if (model->workers[model->components[i]->worker].vf == index) {
            error_set(error, ERROR_BUSY, "component %s is on core %u of vf %u", model->components[i]->name,
                      model->workers[model->components[i]->worker].core, id);
            return error_hint(error, "packet_component_delete");
        }
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++)
        if (model->workers[i].exists && model->workers[i].vf == index)
            model->workers[i] = (struct model_worker){0};
    model->vfs[index] = (struct model_vf){0};
    return true;
}
