//! Model files: GGUF and safetensors, behind one view.
