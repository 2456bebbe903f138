"""What edgec uses of onnxconverter-common, which ships no types."""

import onnx

def convert_float_to_float16(model: onnx.ModelProto, *, keep_io_types: bool = False) -> onnx.ModelProto: ...
