// The inner product of two rows, in vectors and with sums in S.
#pragma once

#include "kernel.h"

namespace {

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
    S lanes[kLanes];
    store(lanes, sum[0] + sum[1]);
    for (int half = kLanes / 2; half; half /= 2)  // in pairs: the compiler keeps this in registers
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

}  // namespace
