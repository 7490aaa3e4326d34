// The part of CUDA that our kernels use, for g++: the same .cu files compile to a host library that runs on the processor.
//
// Blocks run one after another and the threads of a block are fibers of one OS thread. A fiber runs until it meets a
// barrier or a warp operation, so which thread goes first is ours to choose: `graphrec_emulation_order` picks an ascending,
// a descending or a random order, and a kernel that lacks a barrier gives another result under one of them. Shared memory
// holds NaN bytes at the start of each block. A launch fails, with a message on stderr and a CUDA error for the caller, when
//   - a barrier is reached by a part of the block only, or by its threads at different places,
//   - a warp operation lacks lanes of its mask, its lanes meet in different operations, or a lane outside the mask is read,
//   - the grid, block or shared memory is larger than a device takes, or the dynamic shared memory is written out of bounds,
//   - an array is indexed out of its declared bounds, or a vector is read at an address that it is not aligned to
//     (needs -fsanitize=bounds,alignment when compiling, not when linking: the handlers are ours),
//   - two accesses race (races.h; needs -fsanitize=thread in the same way).
// Not emulated: fences between blocks, which no kernel of ours uses, and anything about speed.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "races.h"
#include "types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __constant__ static
// One OS thread runs all fibers, so thread-local is block-local; that storage is one range of bytes that can be poisoned.
#define __shared__ static thread_local

namespace emulation {

enum class Meeting { kNone, kBarrier, kShuffle, kBallot, kSyncWarp };

// One thread of the running block.
struct Fiber {
    uint3 thread;
    void *stack_pointer;
    Meeting waits_in;
    const char *file;  // where it waits
    int line;
    uint32_t mask;   // of a warp operation
    int source;      // the lane that a shuffle reads
    uint64_t value;  // given to the operation, replaced by its result
    bool done;
};

constexpr int kMaxThreads = 1024;
extern Fiber fibers[kMaxThreads];
extern Fiber *current;
extern uint3 block_index;
extern dim3 grid_size, block_size;

// Waits for the whole block; returns how many threads gave a non-zero predicate.
int barrier(int predicate, const char *file, int line);
// Waits for the lanes of the mask and returns what lane `source` gave, or the votes of all.
uint64_t warp_operation(Meeting kind, uint32_t mask, uint64_t value, int source);
void *dynamic_shared();
void allow_shared(const void *kernel, size_t bytes);
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Runs `body(context)` once per thread of the grid.
void run(dim3 grid, dim3 block, size_t shared_bytes, const void *kernel, void (*body)(void *), void *context);

template <typename... P, typename... A>
void launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t, void (*kernel)(P...), A &&...arguments) {
    struct Call {
        void (*kernel)(P...);
        std::tuple<P...> arguments;
    } call{kernel, std::tuple<P...>(static_cast<P>(std::forward<A>(arguments))...)};
    run(grid, block, shared_bytes, reinterpret_cast<const void *>(kernel),
        [](void *context) {
            Call *call = static_cast<Call *>(context);
            std::apply(call->kernel, call->arguments);
        },
        &call);
}

inline int lane() { return int(current - fibers) & 31; }

template <typename T>
T shuffle(uint32_t mask, T value, int source) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = warp_operation(Meeting::kShuffle, mask, bits, source);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace emulation

#define threadIdx (emulation::current->thread)
#define blockIdx emulation::block_index
#define gridDim emulation::grid_size
#define blockDim emulation::block_size
#define __syncthreads() ((void)emulation::barrier(0, __FILE__, __LINE__))
#define __syncthreads_count(predicate) emulation::barrier((predicate) != 0, __FILE__, __LINE__)
#define __syncthreads_or(predicate) int(emulation::barrier((predicate) != 0, __FILE__, __LINE__) != 0)

#include "intrinsics.h"
