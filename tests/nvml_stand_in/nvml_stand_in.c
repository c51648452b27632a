/* A stand-in for the NVIDIA driver's management library, so that tests drive the real binding.
 *
 * What it answers stands in the text file that NVML_STAND_IN names, one "key value" a line, read again
 * whenever it changes. A key that starts with "N." is of device N, one with "*." of every device; the last
 * line that fits wins. "N.error.nvmlDeviceGetPowerUsage 3" makes that function return 3, and
 * "N.error.* 15" makes every function of the device do so. The keys are named where they are read below.
 *
 * -DOLD_DRIVER leaves out what a driver of 2019 did not have.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       VERSION_MISMATCH = 25 };
enum { MAX_DEVICES = 16, MAX_LINES = 1000, MAX_SLICES = 7 };
typedef unsigned long long u64;
typedef unsigned int u32;

/* Slice -1 is the device itself, 0 to 6 its MIG slices. */
typedef struct { int device, slice; double energy_mj; struct timespec energy_at; } Handle;
static Handle handles[MAX_DEVICES][1 + MAX_SLICES];
static char lines[MAX_LINES][256];
static int num_lines;
static struct stat last_stat;

static double seconds_since(struct timespec then) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - then.tv_sec) + 1e-9 * (double)(now.tv_nsec - then.tv_nsec);
}

static const char *find(const char *key) {
    size_t length = strlen(key);
    for (int i = num_lines - 1; i >= 0; i--)
        if (!strncmp(lines[i], key, length) && lines[i][length] == ' ') return lines[i] + length + 1;
    return NULL;
}

static const char *text(const Handle *h, const char *key) {
    char full[160];
    if (!h) return find(key);
    snprintf(full, sizeof full, "%d.%s", h->device, key);
    const char *own = find(full);
    snprintf(full, sizeof full, "*.%s", key);
    return own ? own : find(full);
}

static double number(const Handle *h, const char *key, double otherwise) {
    const char *value = text(h, key);
    return value ? strtod(value, NULL) : otherwise;
}

static u64 integer(const Handle *h, const char *key, u64 otherwise) {
    const char *value = text(h, key);
    return value ? strtoull(value, NULL, 0) : otherwise;
}

static void settle_energy(void) {
    for (int i = 0; i < MAX_DEVICES; i++) {
        Handle *h = &handles[i][0];
        if (h->energy_at.tv_sec) h->energy_mj += number(h, "power_mw", 0) * seconds_since(h->energy_at);
        clock_gettime(CLOCK_MONOTONIC, &h->energy_at);
    }
}

static void refresh(void) {
    const char *path = getenv("NVML_STAND_IN");
    struct stat now;
    if (!path || stat(path, &now)) return;
    if (now.st_ino == last_stat.st_ino && now.st_size == last_stat.st_size &&
        now.st_mtim.tv_sec == last_stat.st_mtim.tv_sec && now.st_mtim.tv_nsec == last_stat.st_mtim.tv_nsec)
        return;
    settle_energy(); /* what was used so far was used at the old power */
    last_stat = now;
    num_lines = 0;
    FILE *file = fopen(path, "r");
    while (file && num_lines < MAX_LINES && fgets(lines[num_lines], sizeof lines[0], file)) {
        lines[num_lines][strcspn(lines[num_lines], "\n")] = 0;
        num_lines++;
    }
    if (file) fclose(file);
}

static int error_of(const Handle *h, const char *function) {
    char key[160];
    refresh();
    snprintf(key, sizeof key, "error.%s", function);
    return (int)integer(h, key, integer(h, "error.*", SUCCESS));
}

static void copy(char *target, u32 length, const char *source) { snprintf(target, length, "%s", source); }

/* Leaves the function with the error that the file asks for, if any. */
#define CHECK(h) do { int error_ = error_of(h, __func__); if (error_) return error_; } while (0)
/* A MIG slice has memory, a name and attributes; the rest belongs to the whole device. */
#define WHOLE_DEVICE(h) do { CHECK(h); if ((h)->slice >= 0) return NOT_SUPPORTED; } while (0)
#define READ_U32(name, key, otherwise) \
    int name(const Handle *h, u32 *value) { \
        WHOLE_DEVICE(h); *value = (u32)integer(h, key, otherwise); return SUCCESS; }

/* init_error, driver_version, device_count */
int nvmlInitWithFlags(u32 flags) {
    (void)flags;
    refresh();
    for (int i = 0; i < MAX_DEVICES; i++)
        for (int j = 0; j <= MAX_SLICES; j++) handles[i][j].device = i, handles[i][j].slice = j - 1;
    return (int)integer(NULL, "init_error", SUCCESS);
}
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the stand-in"; }
int nvmlSystemGetDriverVersion(char *target, u32 length) {
    CHECK(NULL);
    const char *version = text(NULL, "driver_version");
    copy(target, length, version ? version : "580.65.06");
    return SUCCESS;
}
int nvmlDeviceGetCount_v2(u32 *count) { CHECK(NULL); *count = (u32)integer(NULL, "device_count", 1); return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(u32 index, Handle **handle) {
    if (index >= MAX_DEVICES) return INVALID_ARGUMENT;
    CHECK(&handles[index][0]);
    *handle = &handles[index][0];
    return SUCCESS;
}

/* name, uuid, slice_uuids (separated by commas) */
int nvmlDeviceGetName(const Handle *h, char *target, u32 length) {
    CHECK(h);
    const char *name = text(h, "name");
    copy(target, length, name ? name : "NVIDIA Stand-In 80GB");
    return SUCCESS;
}
int nvmlDeviceGetUUID(const Handle *h, char *target, u32 length) {
    CHECK(h);
    const char *uuid = text(h, h->slice < 0 ? "uuid" : "slice_uuids");
    if (!uuid) {
        snprintf(target, length, "GPU-00000000-0000-0000-0000-%012d", h->device);
        return SUCCESS;
    }
    for (int skip = h->slice; skip > 0 && uuid; skip--) uuid = strchr(uuid, ',') ? strchr(uuid, ',') + 1 : NULL;
    if (!uuid) return NOT_FOUND;
    copy(target, length, uuid);
    if (h->slice >= 0) target[strcspn(target, ",")] = 0;
    return SUCCESS;
}
#ifndef OLD_DRIVER
int nvmlDeviceGetMaxMigDeviceCount(const Handle *h, u32 *count) {
    WHOLE_DEVICE(h);
    *count = text(h, "slice_uuids") ? MAX_SLICES : 0;
    return SUCCESS;
}
int nvmlDeviceGetMigDeviceHandleByIndex(const Handle *h, u32 index, Handle **handle) {
    WHOLE_DEVICE(h);
    const char *uuids = text(h, "slice_uuids");
    u32 count = uuids ? 1 : 0;
    for (; uuids && *uuids; uuids++) count += *uuids == ',';
    if (index >= count) return NOT_FOUND;
    *handle = &handles[h->device][1 + index];
    return SUCCESS;
}
int nvmlDeviceGetMigMode(const Handle *h, u32 *current, u32 *pending) {
    WHOLE_DEVICE(h);
    *current = *pending = text(h, "slice_uuids") != NULL;
    return SUCCESS;
}
int nvmlDeviceGetGpuInstanceId(const Handle *h, u32 *id) {
    CHECK(h);
    if (h->slice < 0) return NOT_SUPPORTED;
    *id = (u32)h->slice + 1;
    return SUCCESS;
}
typedef struct { u32 multiprocessors, other[7]; u64 memory_mb; } Attributes;
int nvmlDeviceGetAttributes_v2(const Handle *h, Attributes *attributes) {
    CHECK(h);
    if (h->slice < 0) return NOT_SUPPORTED;
    memset(attributes, 0, sizeof *attributes);
    attributes->multiprocessors = 16;
    return SUCCESS;
}
#endif

/* memory_total, memory_used, memory_reserved: bytes */
typedef struct { u64 total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(const Handle *h, Memory *memory) {
    CHECK(h);
    memory->total = integer(h, "memory_total", 80ull << 30);
    memory->used = integer(h, "memory_used", 5ull << 30) + integer(h, "memory_reserved", 500ull << 20);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
#ifndef OLD_DRIVER
typedef struct { u32 version; u64 total, reserved, free, used; } MemoryV2;
int nvmlDeviceGetMemoryInfo_v2(const Handle *h, MemoryV2 *memory) {
    CHECK(h);
    if (memory->version != (sizeof *memory | 2u << 24)) return VERSION_MISMATCH;
    memory->total = integer(h, "memory_total", 80ull << 30);
    memory->reserved = integer(h, "memory_reserved", 500ull << 20);
    memory->used = integer(h, "memory_used", 5ull << 30);
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}
#endif

/* utilization_gpu, utilization_memory: percent; power_mw, power_limit_mw, default_power_limit_mw */
typedef struct { u32 gpu, memory; } Utilization;
int nvmlDeviceGetUtilizationRates(const Handle *h, Utilization *rates) {
    WHOLE_DEVICE(h);
    rates->gpu = (u32)integer(h, "utilization_gpu", 97);
    rates->memory = (u32)integer(h, "utilization_memory", 41);
    return SUCCESS;
}
READ_U32(nvmlDeviceGetPowerUsage, "power_mw", 0)
READ_U32(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw", 700000)
READ_U32(nvmlDeviceGetPowerManagementDefaultLimit, "default_power_limit_mw", 700000)

/* instant_power_mw: what the field says, else power_mw; instant_power_error: the field's own code */
#ifndef OLD_DRIVER
typedef struct { u32 id, scope; long long at, latency_us; u32 type; int result; union { u32 u; u64 ull; } value; } Field;
int nvmlDeviceGetFieldValues(const Handle *h, int count, Field *fields) {
    WHOLE_DEVICE(h);
    for (int i = 0; i < count; i++) {
        fields[i].result = fields[i].id == 186 ? (int)integer(h, "instant_power_error", SUCCESS) : NOT_SUPPORTED;
        fields[i].value.u = (u32)integer(h, "instant_power_mw", integer(h, "power_mw", 0));
    }
    return SUCCESS;
}
#endif

/* energy_mj: where the counter starts; it grows with power_mw over time. energy_fixed_mj: it stands there. */
#ifndef OLD_DRIVER
int nvmlDeviceGetTotalEnergyConsumption(const Handle *h, u64 *value) {
    WHOLE_DEVICE(h);
    settle_energy();
    *value = integer(h, "energy_fixed_mj", integer(h, "energy_mj", 0) + (u64)handles[h->device][0].energy_mj);
    return SUCCESS;
}
#endif

/* temperature: degrees; clock_sm, clock_memory, max_clock_sm, max_clock_memory: MHz; reasons: bit mask */
int nvmlDeviceGetTemperature(const Handle *h, u32 sensor, u32 *value) {
    WHOLE_DEVICE(h);
    if (sensor != 0) return INVALID_ARGUMENT;
    *value = (u32)integer(h, "temperature", 55);
    return SUCCESS;
}
int nvmlDeviceGetClockInfo(const Handle *h, u32 clock, u32 *value) {
    WHOLE_DEVICE(h);
    *value = (u32)(clock == 1 ? integer(h, "clock_sm", 1755) : integer(h, "clock_memory", 2619));
    return SUCCESS;
}
int nvmlDeviceGetMaxClockInfo(const Handle *h, u32 clock, u32 *value) {
    WHOLE_DEVICE(h);
    *value = (u32)(clock == 1 ? integer(h, "max_clock_sm", 1980) : integer(h, "max_clock_memory", 2619));
    return SUCCESS;
}
#ifdef OLD_DRIVER
int nvmlDeviceGetCurrentClocksThrottleReasons(const Handle *h, u64 *value) {
#else
int nvmlDeviceGetCurrentClocksEventReasons(const Handle *h, u64 *value) {
#endif
    WHOLE_DEVICE(h);
    *value = integer(h, "reasons", 0);
    return SUCCESS;
}

/* pcie_tx_kb, pcie_rx_kb: KiB/s; pcie_blocks_us: how long a reading takes */
int nvmlDeviceGetPcieThroughput(const Handle *h, u32 counter, u32 *value) {
    WHOLE_DEVICE(h);
    usleep((useconds_t)integer(h, "pcie_blocks_us", 20000));
    *value = (u32)(counter == 0 ? integer(h, "pcie_tx_kb", 1000) : integer(h, "pcie_rx_kb", 2000));
    return SUCCESS;
}
READ_U32(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_gen", 5)
READ_U32(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width_now", 16)
READ_U32(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width", 16)
READ_U32(nvmlDeviceGetPersistenceMode, "persistence", 1)
int nvmlDeviceGetEccMode(const Handle *h, u32 *current, u32 *pending) {
    WHOLE_DEVICE(h);
    *current = *pending = (u32)integer(h, "ecc", 1);
    return SUCCESS;
}
int nvmlDeviceGetCudaComputeCapability(const Handle *h, int *major, int *minor) {
    CHECK(h);
    *major = (int)integer(h, "capability_major", 9);
    *minor = (int)integer(h, "capability_minor", 0);
    return SUCCESS;
}

/* processes: numbers separated by commas */
typedef struct { u32 pid; u64 memory; u32 gpu_instance, compute_instance; } Process;
#ifdef OLD_DRIVER
int nvmlDeviceGetComputeRunningProcesses_v2(const Handle *h, u32 *count, Process *found) {
#else
int nvmlDeviceGetComputeRunningProcesses_v3(const Handle *h, u32 *count, Process *found) {
#endif
    CHECK(h);
    const char *processes = text(h, "processes");
    u32 room = *count;
    *count = 0;
    while (processes && *processes) {
        char *end;
        u32 pid = (u32)strtoul(processes, &end, 10);
        if (end == processes) break;
        if (found && *count < room) memset(&found[*count], 0, sizeof *found), found[*count].pid = pid;
        (*count)++;
        processes = *end ? end + 1 : end;
    }
    return *count > room ? INSUFFICIENT_SIZE : SUCCESS;
}

/* gpm: 0 for a device without it; gpm_sm, gpm_tensor, gpm_dram: percent, "nan" too; gpm_dram_error: code */
#ifndef OLD_DRIVER
typedef struct { u32 version, is_supported; } GpmSupport;
typedef struct { const Handle *device; struct timespec at; u32 slice; } GpmSample;
typedef struct { u32 id; int result; double value; const char *names[3]; } GpmMetric;
typedef struct { u32 version, count; GpmSample *earlier, *later; GpmMetric metrics[]; } GpmRequest;
int nvmlGpmQueryDeviceSupport(const Handle *h, GpmSupport *support) {
    WHOLE_DEVICE(h);
    if (support->version != 1) return VERSION_MISMATCH;
    support->is_supported = (u32)integer(h, "gpm", 1);
    return SUCCESS;
}
int nvmlGpmSampleAlloc(GpmSample **sample) { *sample = calloc(1, sizeof **sample); return SUCCESS; }
int nvmlGpmSampleFree(GpmSample *sample) { free(sample); return SUCCESS; }
int nvmlGpmSampleGet(const Handle *h, GpmSample *sample) {
    WHOLE_DEVICE(h);
    sample->device = h;
    clock_gettime(CLOCK_MONOTONIC, &sample->at);
    return SUCCESS;
}
int nvmlGpmMigSampleGet(const Handle *h, u32 gpu_instance, GpmSample *sample) {
    sample->slice = gpu_instance;
    return nvmlGpmSampleGet(h, sample);
}
int nvmlGpmMetricsGet(GpmRequest *request) {
    const Handle *h = request->earlier->device;
    if (!h || h != request->later->device) return INVALID_ARGUMENT;
    CHECK(h);
    if (request->version != 1) return VERSION_MISMATCH;
    if (seconds_since(request->earlier->at) < seconds_since(request->later->at)) return INVALID_ARGUMENT;
    for (u32 i = 0; i < request->count; i++) {
        GpmMetric *metric = &request->metrics[i];
        metric->result = SUCCESS;
        if (metric->id == 2) metric->value = number(h, "gpm_sm", 88.5);
        else if (metric->id == 5) metric->value = number(h, "gpm_tensor", 33.25);
        else if (metric->id == 10) {
            metric->value = number(h, "gpm_dram", 61.0);
            metric->result = (int)integer(h, "gpm_dram_error", SUCCESS);
        } else metric->result = NOT_SUPPORTED;
    }
    return SUCCESS;
}
#endif
