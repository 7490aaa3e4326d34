// The runtime of the emulation: fibers, the scheduler of a block, and what a launch checks.
#include "emulation.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <link.h>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <utility>

#include "races.h"

namespace emulation {

Fiber fibers[kMaxThreads];
Fiber *current;
uint3 block_index;
dim3 grid_size, block_size;

namespace {

constexpr size_t kStackBytes = size_t(128) << 10, kGuardBytes = 4096;
constexpr size_t kDefaultShared = size_t(48) << 10, kMaxShared = size_t(227) << 10;  // per block, of compute capability 9.0
constexpr size_t kFence = 4096;  // bytes around the dynamic shared memory that must keep their value
constexpr int kPoison = 0xFF;    // NaN in float32, float64 and bfloat16, -1 in integers

std::mutex one_launch;
cudaError_t last_error = cudaSuccess;
uint64_t order = 0;  // 0 ascending, 1 descending, else the seed of a random order
uint64_t random_state;
int num_threads, num_done;
uint64_t ready[kMaxThreads / 64];  // bit set of the fibers that can run
bool failed;
Fiber scheduler;
void (*body_of_thread)(void *);
void *body_context;
alignas(128) unsigned char shared_memory[kFence + kMaxShared + kFence];
size_t shared_size;
thread_local char shared_marker;  // lies in the same range as every __shared__ array
std::map<const void *, size_t> &allowed_shared() {
    static std::map<const void *, size_t> bytes;
    return bytes;
}

// Saves the callee-saved registers and the stack of the running fiber and goes on with another one.
extern "C" void graphrec_emulation_switch(void **save, void *load);
#if defined(__x86_64__)
asm(".text\n.hidden graphrec_emulation_switch\n.globl graphrec_emulation_switch\n"
    ".type graphrec_emulation_switch, @function\ngraphrec_emulation_switch:\n"
    "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n"
    ".size graphrec_emulation_switch, .-graphrec_emulation_switch\n");
constexpr int kSavedWords = 6, kReturnWord = 6;
#elif defined(__aarch64__)
asm(".text\n.hidden graphrec_emulation_switch\n.globl graphrec_emulation_switch\n"
    ".type graphrec_emulation_switch, %function\ngraphrec_emulation_switch:\n"
    "sub sp, sp, #160\n stp x19, x20, [sp]\n stp x21, x22, [sp, #16]\n stp x23, x24, [sp, #32]\n"
    "stp x25, x26, [sp, #48]\n stp x27, x28, [sp, #64]\n stp x29, x30, [sp, #80]\n stp d8, d9, [sp, #96]\n"
    "stp d10, d11, [sp, #112]\n stp d12, d13, [sp, #128]\n stp d14, d15, [sp, #144]\n"
    "mov x9, sp\n str x9, [x0]\n mov sp, x1\n"
    "ldp x19, x20, [sp]\n ldp x21, x22, [sp, #16]\n ldp x23, x24, [sp, #32]\n ldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]\n ldp x29, x30, [sp, #80]\n ldp d8, d9, [sp, #96]\n ldp d10, d11, [sp, #112]\n"
    "ldp d12, d13, [sp, #128]\n ldp d14, d15, [sp, #144]\n add sp, sp, #160\n ret\n"
    ".size graphrec_emulation_switch, .-graphrec_emulation_switch\n");
constexpr int kSavedWords = 20, kReturnWord = 11;
#else
#error "the emulation switches fibers on x86-64 and aarch64 only"
#endif

void suspend() { graphrec_emulation_switch(&current->stack_pointer, scheduler.stack_pointer); }

uint64_t random_word() {  // xorshift64*
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545F4914F6CDD1Dull;
}

int index_of(const Fiber *fiber) { return int(fiber - fibers); }
void set_ready(int thread, bool value) {
    const uint64_t bit = uint64_t(1) << (thread & 63);
    ready[thread >> 6] = value ? ready[thread >> 6] | bit : ready[thread >> 6] & ~bit;
}

// The fiber to run next, or -1 when all wait.
int next_ready() {
    const int words = (num_threads + 63) / 64;
    if (order == 1) {
        for (int word = words - 1; word >= 0; --word)
            if (ready[word]) return word * 64 + 63 - __builtin_clzll(ready[word]);
        return -1;
    }
    const int start = order == 0 ? 0 : int(random_word() % uint64_t(num_threads));
    for (int step = 0; step <= words; ++step) {
        const int word = (start / 64 + step) % words;
        uint64_t bits = ready[word];
        if (step == 0) bits &= ~uint64_t(0) << (start & 63);
        if (bits) return word * 64 + __builtin_ctzll(bits);
    }
    return -1;
}

void thread_main() {
    body_of_thread(body_context);
    current->done = true;
    ++num_done;
    set_ready(index_of(current), false);
    suspend();
    std::abort();  // a fiber that is done is never resumed
}

char *stacks() {
    static char *memory = [] {
        constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void *mapped = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE, kFlags, -1, 0);
        if (mapped == MAP_FAILED) std::abort();
        for (int t = 0; t < kMaxThreads; ++t)
            mprotect(static_cast<char *>(mapped) + kStackBytes * size_t(t), kGuardBytes, PROT_NONE);
        return static_cast<char *>(mapped);
    }();
    return memory;
}

void start_fiber(int thread) {
    Fiber &fiber = fibers[thread];
    const unsigned plane = block_size.x * block_size.y, t = unsigned(thread);
    fiber = Fiber{};
    fiber.thread = {t % block_size.x, t % plane / block_size.x, t / plane};
    // At its entry a function finds the stack one word off a multiple of 16 on x86-64 and on a multiple on aarch64.
    void **top = reinterpret_cast<void **>(stacks() + kStackBytes * size_t(thread + 1) - 64);
    fiber.stack_pointer = top - kSavedWords - (kReturnWord == kSavedWords ? 2 : 0);
    static_cast<void **>(fiber.stack_pointer)[kReturnWord] = reinterpret_cast<void *>(thread_main);
    set_ready(thread, true);
}

// The range of the __shared__ arrays: this library's thread-local storage.
std::pair<char *, size_t> static_shared() {
    std::pair<char *, size_t> found{nullptr, 0};
    shared_marker = 0;  // the storage exists from its first use on
    dl_iterate_phdr(
        [](dl_phdr_info *info, size_t, void *out) {
            const char *marker = &shared_marker;
            for (int i = 0; i < info->dlpi_phnum; ++i) {
                char *data = static_cast<char *>(info->dlpi_tls_data);
                const size_t bytes = info->dlpi_phdr[i].p_memsz;
                if (info->dlpi_phdr[i].p_type != PT_TLS || !data || marker < data || marker >= data + bytes) continue;
                *static_cast<std::pair<char *, size_t> *>(out) = {data, bytes};
                return 1;
            }
            return 0;
        },
        &found);
    return found;
}

const char *meeting_name(Meeting kind) {
    switch (kind) {
        case Meeting::kBarrier: return "__syncthreads";
        case Meeting::kShuffle: return "a shuffle";
        case Meeting::kBallot: return "a vote";
        case Meeting::kSyncWarp: return "__syncwarp";
        default: return "nothing";
    }
}

void record(const char *message) {
    if (!failed) std::fprintf(stderr, "graphrec emulation: %s\n", message);
    failed = true;
}

void report_deadlock() {
    for (int thread = 0; thread < num_threads; ++thread) {
        const Fiber &fiber = fibers[thread];
        if (fiber.done) continue;
        char message[400];
        if (fiber.waits_in == Meeting::kBarrier) {
            int waiting = 0;
            for (int other = 0; other < num_threads; ++other) waiting += fibers[other].waits_in == Meeting::kBarrier;
            std::snprintf(message, sizeof message,
                          "block (%u, %u, %u): %d of %d threads reached __syncthreads (thread %d in %s:%d), %d ended without it",
                          block_index.x, block_index.y, block_index.z, waiting, num_threads, thread, fiber.file, fiber.line,
                          num_done);
        } else {
            std::snprintf(message, sizeof message,
                          "block (%u, %u, %u): thread %d waits in %s with mask 0x%08x, which lacks lanes of its mask",
                          block_index.x, block_index.y, block_index.z, thread, meeting_name(fiber.waits_in), fiber.mask);
        }
        record(message);
        return;
    }
}

void check_fences() {
    const unsigned char *memory = shared_memory;
    for (size_t i = 0; i < kFence; ++i) {
        if (memory[i] == 0xA5 && memory[kFence + shared_size + i] == 0xA5) continue;
        char message[200];
        std::snprintf(message, sizeof message, "block (%u, %u, %u) wrote outside its %zu bytes of dynamic shared memory",
                      block_index.x, block_index.y, block_index.z, shared_size);
        record(message);
        return;
    }
}

void run_block(std::pair<char *, size_t> range) {
    if (range.first) std::memset(range.first, kPoison, range.second);
    std::memset(shared_memory, 0xA5, kFence);
    std::memset(shared_memory + kFence, kPoison, shared_size);
    std::memset(shared_memory + kFence + shared_size, 0xA5, kFence);
    num_done = 0;
    races::start_block();
    for (int thread = 0; thread < num_threads; ++thread) start_fiber(thread);
    while (num_done < num_threads && !failed) {
        const int thread = next_ready();
        if (thread < 0) return report_deadlock();
        current = &fibers[thread];
        graphrec_emulation_switch(&scheduler.stack_pointer, current->stack_pointer);
    }
    if (!failed) check_fences();
}

void run_grid() {
    const uint64_t blocks = uint64_t(grid_size.x) * grid_size.y * grid_size.z;
    const std::pair<char *, size_t> range = static_shared();
    races::start_grid({range.first, range.second}, {shared_memory + kFence, kMaxShared}, {stacks(), kStackBytes * kMaxThreads});
    random_state = order | 1;
    const uint64_t first = order > 1 ? random_word() % blocks : 0;
    for (uint64_t step = 0; step < blocks && !failed; ++step) {
        const uint64_t block = order == 1 ? blocks - 1 - step : (first + step) % blocks;
        const uint64_t plane = uint64_t(grid_size.x) * grid_size.y;
        block_index = {unsigned(block % grid_size.x), unsigned(block % plane / grid_size.x), unsigned(block / plane)};
        run_block(range);
    }
    std::memset(ready, 0, sizeof ready);
    current = nullptr;
}

bool valid(dim3 grid, dim3 block, size_t shared_bytes, const void *kernel) {
    const uint64_t threads = uint64_t(block.x) * block.y * block.z;
    const auto allowed = allowed_shared().find(kernel);
    return grid.x >= 1 && grid.x <= 0x7FFFFFFFu && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535 &&
           threads >= 1 && threads <= kMaxThreads && block.z <= 64 &&
           shared_bytes <= (allowed == allowed_shared().end() ? kDefaultShared : allowed->second);
}

}  // namespace

void fail(const char *format, ...) {
    char message[400];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    record(message);
    if (!current) std::abort();  // host code of a kernel file is wrong
    suspend();
    std::abort();
}

int barrier(int predicate, const char *file, int line) {
    Fiber *self = current;
    self->waits_in = Meeting::kBarrier, self->file = file, self->line = line, self->value = uint64_t(predicate);
    set_ready(index_of(self), false);
    uint64_t votes = 0;
    for (int thread = 0; thread < num_threads; ++thread) {
        const Fiber &other = fibers[thread];
        if (other.waits_in != Meeting::kBarrier) return suspend(), int(self->value);
        if (other.line != line || std::strcmp(other.file, file) != 0)
            fail("block (%u, %u, %u): threads %d and %d wait in different barriers, %s:%d and %s:%d", block_index.x,
                 block_index.y, block_index.z, thread, index_of(self), other.file, other.line, file, line);
        votes += other.value;
    }
    for (int thread = 0; thread < num_threads; ++thread) {
        fibers[thread].waits_in = Meeting::kNone, fibers[thread].value = votes;
        set_ready(thread, true);
    }
    races::meet_block();
    suspend();  // so that the order decides who goes on first, not who came last
    return int(self->value);
}

uint64_t warp_operation(Meeting kind, uint32_t mask, uint64_t value, int source) {
    Fiber *self = current, *warp = fibers + (index_of(current) & ~31);
    const int lane = index_of(self) & 31;
    if (!(mask >> lane & 1))
        fail("thread %d calls %s with mask 0x%08x, which leaves itself out", index_of(self), meeting_name(kind), mask);
    self->waits_in = kind, self->mask = mask, self->value = value, self->source = source;
    set_ready(index_of(self), false);
    const int lanes = num_threads - int(warp - fibers) < 32 ? num_threads - int(warp - fibers) : 32;
    bool complete = lanes == 32 || !(mask >> lanes);
    for (int other = 0; other < lanes && complete; ++other)
        complete = !(mask >> other & 1) || (warp[other].waits_in == kind && warp[other].mask == mask && !warp[other].done);
    if (!complete) return suspend(), self->value;
    uint64_t given[32], votes = 0;
    for (int other = 0; other < lanes; ++other) {
        given[other] = warp[other].value;
        if ((mask >> other & 1) && given[other]) votes |= uint64_t(1) << other;
    }
    for (int other = 0; other < lanes; ++other) {
        if (!(mask >> other & 1)) continue;
        Fiber &reader = warp[other];
        if (kind == Meeting::kShuffle && !(mask >> reader.source & 1))
            fail("lane %d shuffles from lane %d, which is not in mask 0x%08x", other, reader.source, mask);
        reader.value = kind == Meeting::kShuffle ? given[reader.source] : votes;
        reader.waits_in = Meeting::kNone;
        set_ready(int(&reader - fibers), true);
    }
    if (kind == Meeting::kSyncWarp) races::meet_warp(int(warp - fibers), mask);
    suspend();
    return self->value;
}

void *dynamic_shared() { return shared_memory + kFence; }

void allow_shared(const void *kernel, size_t bytes) {
    if (bytes > kMaxShared) last_error = cudaErrorInvalidValue;
    else allowed_shared()[kernel] = bytes;
}

void run(dim3 grid, dim3 block, size_t shared_bytes, const void *kernel, void (*body)(void *), void *context) {
    const std::lock_guard<std::mutex> lock(one_launch);
    if (!valid(grid, block, shared_bytes, kernel)) {
        std::fprintf(stderr, "graphrec emulation: no device takes grid (%u, %u, %u), block (%u, %u, %u), %zu shared bytes\n",
                     grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes);
        last_error = cudaErrorInvalidConfiguration;
        return;
    }
    grid_size = grid, block_size = block, shared_size = shared_bytes;
    body_of_thread = body, body_context = context, failed = false;
    num_threads = int(block.x * block.y * block.z);
    run_grid();
    if (failed) last_error = cudaErrorLaunchFailure;
}

}  // namespace emulation

cudaError_t cudaPeekAtLastError() { return emulation::last_error; }
cudaError_t cudaGetLastError() {
    const cudaError_t error = emulation::last_error;
    emulation::last_error = cudaSuccess;
    return error;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t) {
    std::memset(to, value, bytes);
    return cudaSuccess;
}

// 0: threads and blocks run in ascending order; 1: descending; any other number: a random order with this seed.
extern "C" __attribute__((visibility("default"))) void graphrec_emulation_order(int64_t order) {
    emulation::order = uint64_t(order);
}

// What code compiled with -fsanitize=bounds,alignment calls; the layouts are those of the compilers' runtime interface.
namespace {
struct SourceLocation {
    const char *file;
    uint32_t line, column;
};
struct TypeMismatch {
    SourceLocation location;
    const void *type;
    unsigned char log_alignment, kind;
};
}  // namespace

extern "C" {
void __ubsan_handle_out_of_bounds(SourceLocation *location, void *index) {
    emulation::fail("%s:%u: index %lld is out of bounds", location->file, location->line, (long long)(intptr_t)index);
}
void __ubsan_handle_type_mismatch_v1(TypeMismatch *access, void *address) {
    emulation::fail("%s:%u: address %p is not aligned to %d bytes", access->location.file, access->location.line, address,
                    1 << access->log_alignment);
}
}
