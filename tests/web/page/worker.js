// The engine's worker. Messages in: load, submit, cancel, seen. Messages out: the engine's events, and what WebGPU was asked for.

// What really happens at the border, seen from below the face's own wrap of `requestDevice`.
const seen = { subgroupDevices: 0, subgroupModules: 0, modules: 0 };
if (globalThis.GPUAdapter) {
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor);
    if (device.features.has('subgroups')) seen.subgroupDevices += 1;
    return device;
  };
  const { createShaderModule } = GPUDevice.prototype;
  GPUDevice.prototype.createShaderModule = function (descriptor) {
    seen.modules += 1;
    if (/^\s*enable subgroups;/m.test(descriptor.code)) seen.subgroupModules += 1;
    return createShaderModule.call(this, descriptor);
  };
}

let firecrest;

async function load({ build, files, options }) {
  const { default: init, Firecrest } = await import(`/build/${build}/firecrest_web.js`);
  await init();
  firecrest = await Firecrest.load(files, JSON.stringify(options), (event) => postMessage(event));
  postMessage({ kind: 'loaded', description: JSON.parse(firecrest.description) });
}

onmessage = async ({ data }) => {
  try {
    if (data.kind === 'load') await load(data);
    else if (data.kind === 'submit') postMessage({ kind: 'submitted', request: firecrest.submit(JSON.stringify(data.ask)) });
    else if (data.kind === 'cancel') firecrest.cancel(data.request);
    // Kernels are compiled as they are first needed, so this is asked last.
    else if (data.kind === 'seen') postMessage({ kind: 'seen', seen });
  } catch (error) {
    postMessage({ kind: 'error', code: error.code, message: String(error.message ?? error), stack: error.stack });
  }
};
