// What every CPU kernel file shares: exported names, element types, and vectors of the instruction set being compiled for.
//
// Each file is compiled once per variant (GRAPHREC_VARIANT). Everything but the exported functions must be in an unnamed
// namespace or static, and no template of the standard library may be used: the linker would merge the copies of all
// variants into one, and an old processor would run AVX-512 code.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "graphrec_kernels.h"

#define GRAPHREC_JOIN(name, variant) graphrec_cpu_##name##_##variant
#define GRAPHREC_NAME(name, variant) GRAPHREC_JOIN(name, variant)
// Defines an operator: GRAPHREC_CPU(spmm)(int64_t dtype, ...) { ... }
#define GRAPHREC_CPU(name) extern "C" __attribute__((visibility("default"))) int32_t GRAPHREC_NAME(name, GRAPHREC_VARIANT)

namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kMaxVectors = 16;  // accumulators that fit the registers beside the operands
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kMaxVectors = 8;
#else
constexpr int kVectorBytes = 16;
constexpr int kMaxVectors = 8;
#endif

struct bfloat16 {
    uint16_t bits;
};

// The type that scales and sums of a T are held in.
template <typename T>
struct Sum {
    using type = float;
};
template <>
struct Sum<double> {
    using type = double;
};

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(bfloat16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline void narrow(float value, float &out) { out = value; }
inline void narrow(double value, double &out) { out = value; }
inline void narrow(float value, bfloat16 &out) {  // to nearest, ties to even; NaN stays NaN
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    out.bits = value != value ? 0x7FC0 : uint16_t((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// A full vector of sums.
template <typename S>
struct Vector {
    typedef S type __attribute__((vector_size(kVectorBytes)));
    static constexpr int lanes = kVectorBytes / int(sizeof(S));
};

template <typename T>
inline typename Vector<T>::type load(const T *from) {
    typename Vector<T>::type value;
    std::memcpy(&value, from, kVectorBytes);
    return value;
}

// As many bfloat16s as a vector holds floats.
typedef uint16_t Half __attribute__((vector_size(kVectorBytes / 2)));
typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));

inline Vector<float>::type widen(Half half) {
#if defined(__AVX512F__)
    // GCC 12 warns of the unmasked form's own undefined operand.
    return (Vector<float>::type)((Bits)_mm512_maskz_cvtepu16_epi32(0xFFFF, (__m256i)half) << 16);
#elif defined(__AVX2__)
    // GCC 12 widens the halves one by one and joins them.
    return (Vector<float>::type)((Bits)_mm256_cvtepu16_epi32((__m128i)half) << 16);
#else
    return (Vector<float>::type)(__builtin_convertvector(half, Bits) << 16);
#endif
}

inline Half narrow(Vector<float>::type value) {
    const Bits bits = (Bits)value;
    const Bits rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector((Bits)(value == value ? rounded : Bits{} + 0x7FC0), Half);
}

inline Vector<float>::type load(const bfloat16 *from) {
    Half half;
    std::memcpy(&half, from, sizeof half);
    return widen(half);
}

template <typename T>
inline void store(T *to, typename Vector<T>::type value) {
    std::memcpy(to, &value, kVectorBytes);
}

inline void store(bfloat16 *to, Vector<float>::type value) {
    const Half half = narrow(value);
    std::memcpy(to, &half, sizeof half);
}

// The first `count` lanes; the others are zero, or left alone in memory.
template <typename T>
inline typename Vector<typename Sum<T>::type>::type load_part(const T *from, int64_t count) {
    typename Vector<typename Sum<T>::type>::type value = {};
    for (int64_t lane = 0; lane < count; ++lane) value[lane] = widen(from[lane]);
    return value;
}

template <typename T>
inline void store_part(T *to, typename Vector<typename Sum<T>::type>::type value, int64_t count) {
    for (int64_t lane = 0; lane < count; ++lane) narrow(value[lane], to[lane]);
}

#if defined(__AVX512F__)
template <>
inline Vector<float>::type load_part<float>(const float *from, int64_t count) {
    return (Vector<float>::type)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), from);
}

template <>
inline Vector<double>::type load_part<double>(const double *from, int64_t count) {
    return (Vector<double>::type)_mm512_maskz_loadu_pd(__mmask8((1u << count) - 1), from);
}

template <>
inline Vector<float>::type load_part<bfloat16>(const bfloat16 *from, int64_t count) {
    return widen((Half)_mm256_maskz_loadu_epi16(__mmask16((1u << count) - 1), from));
}

template <>
inline void store_part<float>(float *to, Vector<float>::type value, int64_t count) {
    _mm512_mask_storeu_ps(to, __mmask16((1u << count) - 1), (__m512)value);
}

template <>
inline void store_part<double>(double *to, Vector<double>::type value, int64_t count) {
    _mm512_mask_storeu_pd(to, __mmask8((1u << count) - 1), (__m512d)value);
}

template <>
inline void store_part<bfloat16>(bfloat16 *to, Vector<float>::type value, int64_t count) {
    _mm256_mask_storeu_epi16(to, __mmask16((1u << count) - 1), (__m256i)narrow(value));
}
#elif defined(__AVX2__)
template <>
inline Vector<float>::type load_part<float>(const float *from, int64_t count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return (Vector<float>::type)_mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), lane));
}

template <>
inline Vector<float>::type load_part<bfloat16>(const bfloat16 *from, int64_t count) {
    // Four lanes at once if there are as many, then two, then one.
    uint64_t four = 0, rest = 0;
    const bfloat16 *next = from + (count & 4);
    if (count & 4) std::memcpy(&four, from, 8);
    if (count & 2) std::memcpy(&rest, next, 4);
    if (count & 1) rest |= uint64_t(next[count & 2].bits) << (16 * (count & 2));
    return widen((Half)(count & 4 ? _mm_set_epi64x(int64_t(rest), int64_t(four)) : _mm_cvtsi64_si128(int64_t(rest))));
}
#endif

// Calls `run` with a value of the type that `dtype` names.
template <typename Run>
int32_t for_dtype(int64_t dtype, Run run) {
    switch (dtype) {
        case GRAPHREC_FLOAT32: return run(float());
        case GRAPHREC_FLOAT64: return run(double());
        case GRAPHREC_BFLOAT16: return run(bfloat16());
        default: return GRAPHREC_BAD_DTYPE;
    }
}

// The first row at or after `edge`, for ranges of rows with equal numbers of edges: bound `part` of `parts`.
inline int64_t balanced_row(const int64_t *indptr, int64_t num_rows, int64_t part, int64_t parts) {
    // A row costs about as much as one edge besides its edges, so rows + edges are balanced.
    const int64_t target = (indptr[num_rows] - indptr[0] + num_rows) * part / parts;
    int64_t low = 0, high = num_rows;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (indptr[middle] - indptr[0] + middle < target) low = middle + 1; else high = middle;
    }
    return low;
}

}  // namespace
