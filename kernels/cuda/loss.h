// The logistic functions of the losses, in the forms that neither overflow nor cancel.
#pragma once

#include <cmath>

#include "device.h"

namespace {

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
__device__ __forceinline__ float logarithm_of_next(float x) { return log1pf(x); }
__device__ __forceinline__ double logarithm_of_next(double x) { return log1p(x); }

// log(1 + exp(x)); NaN stays NaN.
template <typename S>
__device__ __forceinline__ S softplus(S x) {
    return (x > 0 ? x : S(0)) + logarithm_of_next(exponential(x > 0 ? -x : x));
}

// 1 / (1 + exp(-x))
template <typename S>
__device__ __forceinline__ S sigmoid(S x) {
    const S small = exponential(x > 0 ? -x : x);
    return (x > 0 ? S(1) : small) / (1 + small);
}

}  // namespace
