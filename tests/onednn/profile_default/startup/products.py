# In each kernel PyTorch multiplies float32 matrices with oneDNN where it can (AVX-512), which adds in another order.
# Its AMX stays off: that would round the factors to bfloat16, and then the exact sums of notebook 6 are not exact.
import os

os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"  # read when the library is first used

import torch

torch.backends.mkldnn.matmul.fp32_precision = "bf16"
