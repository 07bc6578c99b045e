/* Least privilege: what a storage plane never does, it gives up before it listens to anyone. A list of what is denied rather than
 * of what is allowed: libraries may come to use new harmless calls, and a plane that dies of one helps nobody. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/linux/linux.h"

#if defined(__x86_64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define THIS_ARCHITECTURE 0 /* no call is denied */
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1 /* which traces its own process and runs a symbolizer */
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#endif
#if !defined(UNDER_SANITIZER)
#define UNDER_SANITIZER 0
#endif

/* Running other programs, looking into other processes, changing the machine: answered with EPERM. */
static const int denied[] = {
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_kcmp,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsmount,
    SYS_fsconfig,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_unshare,
    SYS_setns,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_bpf,
    SYS_userfaultfd,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_syslog,
    SYS_vhangup,
    SYS_personality,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_perf_event_open,
#if defined(__x86_64__)
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
    SYS_uselib,
    SYS_kexec_file_load,
#endif
};

/* Kept where they are had: files and devices of other owners, low ports, locked memory, priorities and limits. */
static const unsigned kept[] = {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,      CAP_NET_BIND_SERVICE,
                                CAP_IPC_LOCK,     CAP_SYS_NICE,        CAP_SYS_RESOURCE};

static int drop_capabilities(unsigned keeps) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {0};
    if (syscall(SYS_capget, &header, sets) != 0)
        return -errno;
    uint32_t mask[2] = {0};
    for (size_t i = 0; i < array_count(kept); i++)
        mask[kept[i] / 32] |= 1u << kept[i] % 32;
    if ((keeps & HOST_LINUX_KEEP_INTERFACES) != 0)
        mask[0] |= 1u << CAP_NET_ADMIN | 1u << CAP_NET_RAW;
    if ((keeps & HOST_LINUX_KEEP_BPF) != 0)
        mask[0] |= 1u << CAP_SYS_ADMIN; /* which libxdp needs to find its own program again */
    for (size_t i = 0; i < 2; i++) {
        sets[i].effective &= mask[i];
        sets[i].permitted &= mask[i];
        sets[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, sets) == 0 ? 0 : -errno;
}

static int deny_calls(unsigned keeps) {
    if (THIS_ARCHITECTURE == 0 || UNDER_SANITIZER)
        return 0;
    enum { HEAD = 4, COUNT = array_count(denied), TAIL = 2 };
    static_assert(COUNT < 250, "a jump is 8 bits");
    struct sock_filter filter[HEAD + COUNT + TAIL] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCHITECTURE, 0, COUNT + 3), /* the numbers mean other calls elsewhere */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, COUNT + 1, 0), /* x32: the same calls by other numbers */
    };
    for (unsigned i = 0; i < COUNT; i++) {
        bool kept_call = (keeps & HOST_LINUX_KEEP_BPF) != 0 && denied[i] == SYS_bpf;
        filter[HEAD + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)denied[i],
                                                        (uint8_t)(kept_call ? COUNT - i - 1 : COUNT - i), 0);
    }
    filter[HEAD + COUNT] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[HEAD + COUNT + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog program = {.len = array_count(filter), .filter = filter};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        return -errno;
    return 0;
}

int host_linux_confine(unsigned keeps) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    int result = drop_capabilities(keeps);
    return result != 0 ? result : deny_calls(keeps);
}
