# In each kernel PyTorch multiplies float32 matrices with oneDNN where it can (AVX-512), and rounds where it can (AMX).
import torch

torch.backends.mkldnn.matmul.fp32_precision = "bf16"
