// The inner product of two rows, in vectors and with sums in S.
#pragma once

#include "kernel.h"

namespace {

// The sum of a vector's lanes: the upper half is added to the lower one until one is left.
#if defined(__AVX2__)
inline float add_lanes(Vector<float>::type sum) {
#if defined(__AVX512F__)
    // GCC 12 warns of the unmasked forms' own undefined operand.
    const __m512 all = (__m512)sum;
    const __m256 half = _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xFF, all, 0), _mm512_maskz_extractf32x8_ps(0xFF, all, 1));
#else
    const __m256 half = (__m256)sum;
#endif
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline double add_lanes(Vector<double>::type sum) {
#if defined(__AVX512F__)
    const __m512d all = (__m512d)sum;
    const __m256d half = _mm256_add_pd(_mm512_maskz_extractf64x4_pd(0xF, all, 0), _mm512_maskz_extractf64x4_pd(0xF, all, 1));
#else
    const __m256d half = (__m256d)sum;
#endif
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
#else
template <typename V>
inline auto add_lanes(V sum) {
    for (int half = int(sizeof sum / sizeof sum[0]) / 2; half; half /= 2)
        for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
    const auto total = sum[0];
    return total;
}
#endif

template <typename T>
inline typename Sum<T>::type dot(const T *a, const T *b, int64_t dim) {
    using S = typename Sum<T>::type;
    constexpr int kLanes = Vector<S>::lanes;
    typename Vector<S>::type sum[2] = {};
    int64_t d = 0;
    for (; d + 2 * kLanes <= dim; d += 2 * kLanes) {
        sum[0] += load(a + d) * load(b + d);
        sum[1] += load(a + d + kLanes) * load(b + d + kLanes);
    }
    for (; d < dim; d += kLanes) {
        const int64_t count = dim - d < kLanes ? dim - d : kLanes;
        sum[0] += count == kLanes ? load(a + d) * load(b + d) : load_part(a + d, count) * load_part(b + d, count);
    }
    return add_lanes(sum[0] + sum[1]);
}

}  // namespace
