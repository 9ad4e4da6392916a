"""Exact theory of the linear student: exponential model, ball model, isotropic densities, gradient flow."""
