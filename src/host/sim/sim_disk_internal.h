/* Disks, files and their requests, as the simulator's files share them. */
#pragma once

#include "host/sim/sim_content.h"

struct sim_bad_range {
    uint64_t offset, length;
};

struct sim_armed_fault {
    struct sim_disk_fault fault;
    bool armed;
    uint64_t seen, hits; /* requests that matched, and that were hit */
};

#define SIM_BAD_RANGES_MAX 64

struct sim_disk {
    struct sim *sim;
    struct list_node of_sim;
    struct sim_disk_options options;
    uint64_t id;
    struct sim_layer *current, *stable; /* above one common layer, or above nothing */
    struct sim_outstanding pending;     /* landed, not durable */
    struct sim_outstanding phantoms;    /* dropped by a failed sync, still readable */
    uint64_t completions;               /* writes whose completion was told */
    struct list in_flight;              /* struct sim_io handed over */
    struct list files;                  /* struct sim_file, also those of dead processes with requests in flight */
    struct list waiting;                /* struct sim_open that wait for the lock */
    uint64_t busy_until_ns;             /* bandwidth */
    uint64_t allocated;                 /* bytes; kept only with options.space */
    struct sim_armed_fault faults[SIM_DISK_FAULTS_MAX];
    uint32_t fault_count;
    struct sim_bad_range bad[SIM_BAD_RANGES_MAX];
    uint32_t bad_count;
    bool full, dead;
    struct sim_disk_stats stats;
    struct sim_record *record;
};

struct sim_file {
    struct host_file file;
    struct sim_disk *disk;
    struct sim_process *process; /* NULL once it was killed */
    struct list_node of_process, of_disk;
    bool read_only, direct, hold;
    uint64_t in_flight; /* requests handed over; a killed process's file lives until they have landed */
};

struct sim_io {
    struct sim_event event;
    struct sim_told told;
    struct list_node on_loop;    /* prepared */
    struct list_node of_disk;    /* handed over */
    struct list_node of_process; /* while its process lives */
    struct sim_loop *loop;
    struct sim_process *process;
    struct sim_file *file;
    struct host_file_request *request; /* NULL: a ghost, its process is dead */
    enum host_file_op op;
    uint64_t offset, length;
    struct sim_write *write; /* of WRITE, PUNCH, ZERO */
    uint64_t mark;           /* SYNC: completions it covers */
    uint32_t sync_index;     /* SYNC: in the record */
    int64_t result;
    int fail; /* -errno it will end with, 0 = none */
    bool handed_over, hung, landed;
    uint64_t tell_at_ns; /* completion, at or after landing */
};

struct sim_open {
    struct sim_event event;
    struct sim_told told;
    struct list_node of_process, waiting;
    struct sim_loop *loop;
    struct host_file_open *open;
    uint64_t deadline_ns; /* of waiting for the lock */
    bool looked;          /* the path was resolved and the lock found taken */
};

/* ---- sim_disk.c ---- */

/* Hands a request to the disk. */
void sim_disk_start(struct sim_disk *disk, struct sim_io *io);
/* Its completion was told to the caller, or its process is dead: the io is freed. */
void sim_disk_told(struct sim_disk *disk, struct sim_io *io);
/* Its process dies: what it lent is captured, it goes on as a ghost. */
void sim_io_orphan(struct sim_io *io);
/* Applies a truncation (of the process's, at once). */
int sim_disk_truncate(struct sim_disk *disk, uint64_t bytes);
struct sim_disk *sim_disk_of_layer(struct sim *sim, const struct sim_disk_options *options, struct sim_layer *below);

/* ---- sim_record.c ---- */

void sim_record_note(struct sim_record *record, enum sim_record_kind kind, uint32_t index);
void sim_record_write(struct sim_record *record, struct sim_write *write);
uint32_t sim_record_sync(struct sim_record *record, uint64_t mark);
void sim_records_destroy(struct sim *sim);

/* ---- sim_file.c ---- */

/* The last request of a dead process's file has landed. */
void sim_file_free(struct sim_file *file);
void sim_file_unlock(struct sim_disk *disk);
