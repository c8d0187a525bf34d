"""One thread budget for all libraries of a process."""

import cv2
import torch
from threadpoolctl import threadpool_limits


def limit_threads(threads: int) -> None:
    """Hold every loaded BLAS and OpenMP, torch and OpenCV to `threads` threads, for the process's life.

    One process here loads several OpenMP runtimes (torch's, faiss's); each would take all cores.
    """
    threadpool_limits(threads)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
