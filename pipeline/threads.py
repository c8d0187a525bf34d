"""One thread budget for the libraries of a process."""

import cv2
from threadpoolctl import threadpool_limits


def limit_threads(threads: int) -> None:
    """Hold every BLAS and OpenMP that is loaded by now, and OpenCV, to `threads` threads for the process's life.

    One process here loads several OpenMP runtimes (torch's, faiss's); each would take all cores.
    """
    threadpool_limits(threads)
    cv2.setNumThreads(threads)
