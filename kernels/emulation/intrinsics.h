// Warp operations, atomics, bit and float intrinsics under CUDA's names. Included by emulation.h.
#pragma once

constexpr int warpSize = 32;

// A shuffle within groups of `width` lanes, as CUDA defines it; past the end of a group a lane reads itself.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const int lane = emulation::lane();
    return emulation::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    const int lane = emulation::lane(), source = lane ^ bits;
    return emulation::shuffle(mask, value, source <= (lane | (width - 1)) ? source : lane);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32) {
    const int lane = emulation::lane(), source = lane + int(distance);
    return emulation::shuffle(mask, value, source <= (lane | (width - 1)) ? source : lane);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32) {
    const int lane = emulation::lane(), source = lane - int(distance);
    return emulation::shuffle(mask, value, source >= (lane & ~(width - 1)) ? source : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    return unsigned(emulation::warp_operation(emulation::Meeting::kBallot, mask, predicate != 0, 0));
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) {
    emulation::warp_operation(emulation::Meeting::kSyncWarp, mask, 0, 0);
}

// Integers only: a float atomic would make results depend on the order of threads.
// Not inlined, so that their accesses are told as atomic ones and not as those of the kernel that calls them.
#define GRAPHREC_ATOMIC(type, name, updated)                                                                              \
    __attribute__((noinline, no_sanitize("thread"))) inline type name(type *at, type value) {                            \
        emulation::races::access_atomically(at, sizeof *at, __builtin_return_address(0));                                                              \
        const type old = *at;                                                                                             \
        *at = updated;                                                                                                    \
        return old;                                                                                                       \
    }
#define GRAPHREC_ATOMICS(type)                               \
    GRAPHREC_ATOMIC(type, atomicAdd, old + value)            \
    GRAPHREC_ATOMIC(type, atomicMax, value > old ? value : old) \
    GRAPHREC_ATOMIC(type, atomicMin, value < old ? value : old) \
    GRAPHREC_ATOMIC(type, atomicExch, value)                 \
    __attribute__((noinline, no_sanitize("thread"))) inline type atomicCAS(type *at, type expected, type value) { \
        emulation::races::access_atomically(at, sizeof *at, __builtin_return_address(0)); \
        const type old = *at;                                \
        if (old == expected) *at = value;                    \
        return old;                                          \
    }
GRAPHREC_ATOMICS(int)
GRAPHREC_ATOMICS(unsigned)
GRAPHREC_ATOMICS(unsigned long long)
GRAPHREC_ATOMIC(unsigned, atomicOr, old | value)
#undef GRAPHREC_ATOMICS
#undef GRAPHREC_ATOMIC
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
T __ldg(const T *from) { return *from; }
template <typename T>
T __ldcs(const T *from) { return *from; }
template <typename T>
void __stcs(T *to, T value) { *to = value; }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(unsigned(bits)) : 32; }
inline int __clzll(long long bits) { return bits ? __builtin_clzll((unsigned long long)bits) : 64; }

template <typename To, typename From>
To graphrec_bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "the bits of one value are those of another of its size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float value) { return graphrec_bits_as<int>(value); }
inline unsigned __float_as_uint(float value) { return graphrec_bits_as<unsigned>(value); }
inline float __int_as_float(int bits) { return graphrec_bits_as<float>(bits); }
inline float __uint_as_float(unsigned bits) { return graphrec_bits_as<float>(bits); }
inline long long __double_as_longlong(double value) { return graphrec_bits_as<long long>(value); }
inline double __longlong_as_double(long long bits) { return graphrec_bits_as<double>(bits); }

#define GRAPHREC_EXTREMES(type)                                       \
    inline type max(type a, type b) { return a < b ? b : a; }         \
    inline type min(type a, type b) { return b < a ? b : a; }
GRAPHREC_EXTREMES(int)
GRAPHREC_EXTREMES(unsigned)
GRAPHREC_EXTREMES(long)
GRAPHREC_EXTREMES(unsigned long)
GRAPHREC_EXTREMES(long long)
GRAPHREC_EXTREMES(unsigned long long)
#undef GRAPHREC_EXTREMES
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }

// glibc declares functions with two underscores before some of CUDA's names, so these are macros.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __fdividef(x, y) ((x) / (y))
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel *kernel, cudaFuncAttribute, int bytes) {
    emulation::allow_shared(reinterpret_cast<const void *>(kernel), size_t(bytes));
    return cudaSuccess;
}
