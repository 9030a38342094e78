//! A device and what goes wrong with it: allocation, submission and waiting, every wgpu error turned into ours.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, ErrorCode, Result};

/// The first thing the driver complained of outside an error scope. Kept until a verb reports it.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<Option<(ErrorCode, String)>>>);

impl Faults {
    /// Keeps the first fault; a lost device replaces lesser ones, since it explains them.
    fn record(&self, code: ErrorCode, message: String, replaces: bool) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if replaces || first.is_none() {
            *first = Some((code, message));
        }
    }

    fn get(&self) -> Option<(ErrorCode, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An error scope's answer. Natively it may be sent between threads, and so may a backend.
#[cfg(not(target_family = "wasm"))]
type ScopeAnswer = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;
#[cfg(target_family = "wasm")]
type ScopeAnswer = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

/// An answer that a browser has not given yet, and what it is about.
type PendingScope = (String, ScopeAnswer);

/// A wgpu device and queue that never panic and never lose an error.
pub(super) struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    faults: Faults,
    pending: Vec<PendingScope>,
}

/// Our error for one of wgpu's, met while doing `what`.
fn translate(what: &str, error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            Error::new(ErrorCode::Memory, format!("the GPU is out of memory {what}; close other programs or load a smaller model"))
        }
        wgpu::Error::Validation { description, .. } => Error::new(ErrorCode::Device, format!("the GPU refused {what}: {description}")),
        wgpu::Error::Internal { description, .. } => Error::new(ErrorCode::Device, format!("the GPU driver failed {what}: {description}")),
    }
}

impl Device {
    /// Takes a device over: from here on its errors are kept rather than panicked on.
    pub(super) fn new(device: wgpu::Device, queue: wgpu::Queue) -> Device {
        let faults = Faults::default();
        let uncaptured = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let error = translate("while it ran", &error);
            uncaptured.record(error.code(), error.message().to_owned(), false);
        }));
        let lost = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Destroying the device is how a backend is dropped: nobody is left to hear of it.
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost.record(ErrorCode::Device, format!("the GPU device was lost: {message}; load the model again"), true);
            }
        });
        let limits = device.limits();
        Device { device, queue, limits, faults, pending: Vec::new() }
    }

    /// The first fault so far, as an error. A device with a fault stays faulty: what it computed since is not to be trusted.
    pub(super) fn check(&self) -> Result<()> {
        match self.faults.get() {
            Some((code, message)) => Err(Error::new(code, message)),
            None => Ok(()),
        }
    }

    /// Runs `make` and reports what wgpu said of it. Natively the answer is there at once; a browser answers later, and
    /// [`Device::settle`] or the next check reports it.
    pub(super) fn scoped<T>(&mut self, what: &str, make: impl FnOnce(&wgpu::Device) -> T) -> Result<T> {
        let scopes = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal]
            .map(|filter| self.device.push_error_scope(filter));
        let made = make(&self.device);
        // Scopes pop in the reverse order of their pushes.
        let mut first = None;
        for scope in scopes.into_iter().rev() {
            let mut answer: ScopeAnswer = Box::pin(scope.pop());
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(error)) => first = first.or(Some(translate(what, &error))),
                Poll::Ready(None) => {}
                Poll::Pending => self.pending.push((what.to_owned(), answer)),
            }
        }
        match first {
            Some(error) => Err(error),
            None => Ok(made),
        }
    }

    /// Waits for the answers of error scopes that a browser has not given yet, and reports the first error.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let mut first = None;
        // An answer leaves the list only when it is there: who drops this future loses none.
        while let Some((what, answer)) = self.pending.last_mut() {
            if let Some(error) = answer.await {
                first = Some(translate(what, &error));
            }
            self.pending.pop();
        }
        match first {
            Some(error) => Err(error),
            None => self.check(),
        }
    }

    /// A buffer of `size` bytes, rounded up to 16 so that every vector load inside it is whole. Its content is zero.
    pub(super) fn buffer(&mut self, label: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let size = size.max(16).next_multiple_of(16);
        if size > self.limits.max_buffer_size {
            return Err(Error::new(
                ErrorCode::Memory,
                format!("{label} needs {size} bytes in one buffer, but this GPU allows {}", self.limits.max_buffer_size),
            ));
        }
        let what = format!("allocating {size} bytes for {label}");
        self.scoped(&what, |device| {
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        })
    }

    /// The most bytes one storage binding may span: at most 2 GiB, since some drivers compute byte offsets in i32.
    pub(super) fn binding_limit(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size).min(1 << 31)
    }

    /// Natively waits until everything submitted is done, which also fires callbacks and frees staging memory. In a browser this
    /// does nothing: the event loop does both.
    pub(super) fn wait(&self) -> Result<()> {
        self.poll(None)
    }

    /// Waits for one submission, or for all.
    fn poll(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        #[cfg(target_family = "wasm")]
        let _ = submission;
        #[cfg(not(target_family = "wasm"))]
        if let Err(error) = self.device.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None }) {
            self.check()?;
            return Err(Error::new(ErrorCode::Device, format!("waiting for the GPU failed: {error}")));
        }
        Ok(())
    }

    /// Asks for the first `bytes` of a buffer, to be had when what was submitted is done.
    pub(super) fn map(&self, buffer: &wgpu::Buffer, bytes: u64) -> Mapping {
        let mapping = Mapping::default();
        let callback = mapping.clone();
        buffer.slice(..bytes).map_async(wgpu::MapMode::Read, move |answer| callback.finish(answer.is_ok()));
        mapping
    }

    /// Waits for a submission, or for all, and the mapping that was asked for behind it.
    ///
    /// Natively callbacks fire only from `Device::poll`, which blocks this thread until the GPU has come so far: the engine has one of
    /// its own. In a browser poll does nothing and the event loop wakes this future.
    pub(super) async fn finish(&self, submission: Option<wgpu::SubmissionIndex>, mapping: Mapping) -> Result<()> {
        if !mapping.is_done() {
            self.poll(submission)?;
        }
        let mapped = mapping.await;
        self.check()?;
        if !mapped {
            return Err(Error::new(
                ErrorCode::Device,
                "results could not be read back from the GPU; the device may be lost: load the model again",
            ));
        }
        Ok(())
    }

    /// Waits until `bytes` of `buffer` can be read, and hands them to `read`.
    pub(super) async fn read<T>(&mut self, buffer: &wgpu::Buffer, bytes: u64, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.settle().await?;
        let mapping = self.map(buffer, bytes);
        self.finish(None, mapping).await?;
        self.mapped(buffer, bytes, read)
    }

    /// Hands the first `bytes` of a mapped buffer to `read`, and unmaps it.
    pub(super) fn mapped<T>(&self, buffer: &wgpu::Buffer, bytes: u64, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let value = {
            let view = buffer
                .slice(..bytes)
                .get_mapped_range()
                .map_err(|error| Error::new(ErrorCode::Device, format!("results could not be read back from the GPU: {error}")))?;
            read(&view)
        };
        buffer.unmap();
        Ok(value)
    }
}

/// A future that a map callback finishes.
#[derive(Clone, Default)]
pub(super) struct Mapping(Arc<Mutex<(Option<bool>, Option<Waker>)>>);

impl Mapping {
    fn is_done(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.is_some()
    }

    fn finish(&self, ok: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = Some(ok);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl Future for Mapping {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.0 {
            Some(ok) => Poll::Ready(ok),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
