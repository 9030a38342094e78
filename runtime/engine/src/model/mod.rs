//! What a step computes: families describe themselves as data ([`config`]), and a model turns that into a [`plan`].

pub mod plan;
