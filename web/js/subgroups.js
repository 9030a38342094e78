// wgpu 30 can't ask a browser for subgroups: it has no name for the feature there. So the request is amended on its way.
// Once only; every other feature and caller is left as it is.
let wrapped = false;

// Whether devices made from now on have subgroups wherever their adapter has them.
export function grantSubgroups() {
  const prototype = globalThis.GPUAdapter?.prototype;
  if (!prototype) return false;
  if (!wrapped) {
    const requestDevice = prototype.requestDevice;
    prototype.requestDevice = function (descriptor = {}) {
      if (!this.features.has('subgroups')) return requestDevice.call(this, descriptor);
      const requiredFeatures = [...new Set([...(descriptor.requiredFeatures ?? []), 'subgroups'])];
      // wgpu hands a descriptor of its own making: it is amended, since a copy would lose what is inherited or not enumerable.
      descriptor.requiredFeatures = requiredFeatures;
      return requestDevice.call(this, descriptor);
    };
    wrapped = true;
  }
  return true;
}
