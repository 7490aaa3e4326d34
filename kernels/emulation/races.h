// Races between the threads of an emulated grid: two accesses to one byte, of which at least one writes, without anything
// that orders them.
//
// The kernel files are compiled with -fsanitize=thread, which puts a call before every access to memory; the functions that
// it calls are ours (races.cpp), so the compiler's own runtime, which knows nothing of barriers on a device, is not linked.
// What orders two accesses: __syncthreads for all threads of a block, __syncwarp for the lanes of its mask, the end of a
// launch. Shuffles and votes do not, as CUDA defines them. Two atomics on one place are no race; an atomic and another
// access are. Blocks share global memory and nothing orders them. Not seen are calls of memcpy and memset whose size is no
// constant; and lanes that are ordered by several __syncwarp of overlapping masks may be taken for a race.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation::races {

struct Range {
    const void *begin;
    size_t bytes;
};

// Before a launch: where its shared arrays, its dynamic shared memory and its stacks lie.
void start_grid(Range arrays, Range dynamic, Range stacks);
void start_block();
void meet_block();                                // every thread of the block has come to a barrier
void meet_warp(int first_thread, uint32_t lanes);  // the lanes of the warp that begins with this thread did so
void access_atomically(const void *at, size_t bytes, const void *code);  // `code`: the place of the access
void access_by_reading(const void *at, size_t bytes, const void *code);
void access_by_writing(const void *at, size_t bytes, const void *code);

}  // namespace emulation::races
