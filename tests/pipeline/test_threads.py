"""The thread budget reaches every library of the process."""

import subprocess
import sys


def test_all_pools_and_opencv_are_held() -> None:
    # In a process of its own: the budget lasts for the process's life.
    code = (
        "import faiss, torch, numpy, cv2\n"
        "from threadpoolctl import threadpool_info\n"
        "from pipeline.threads import limit_threads\n"
        "limit_threads(1)\n"
        "print({pool['num_threads'] for pool in threadpool_info()}, cv2.getNumThreads())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "{1} 1"
