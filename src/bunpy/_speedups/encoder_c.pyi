from bunpy._speedups.encoder_py import BytesBuffer as BytesBuffer
from bunpy._speedups.encoder_py import EventBuffer as EventBuffer
from bunpy._speedups.encoder_py import encode as encode
