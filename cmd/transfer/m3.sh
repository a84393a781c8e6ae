python3 measure2.py pull 4x400m 5 transfer oras regctl
python3 measure2.py copy 1x527m 5 transfer oras crane
python3 measure2.py copy 4x400m 3 transfer oras crane
