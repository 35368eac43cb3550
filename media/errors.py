"""What can be wrong with footage, in words for people, and the way FFmpeg's errors become ours.

Every code here is stable: it ends in problem details, in job records and in the item's page.
The reasons are given in Chinese and in English, because both are read in the same office.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from evidence.errors import MediaError

REASONS: dict[str, tuple[str, str]] = {
    "empty": ("文件为零字节", "the file has no bytes"),
    "not_media": ("内容不是可识别的音视频或图片", "the content is not audio, video or a picture"),
    "document": (
        "附件为文档，原样保存，不生成播放版本",
        "a document kept with the footage; not played",
    ),
    "moov_missing": (
        "缺少 moov 索引，录制未正常结束，无法解码",
        "the moov index is missing: the recording was never closed, so it cannot be decoded",
    ),
    "no_streams": ("容器内没有可用的音频或视频流", "the container holds no usable audio or video stream"),
    "encrypted": ("内容已加密，需要厂商密钥才能解码", "the content is encrypted; only its key can open it"),
    "huge_dimensions": (
        "画面尺寸声明超出上限，拒绝解码",
        "the header declares a picture larger than the limit; it is not decoded",
    ),
    "unknown_codec": ("编码格式无法识别", "the codec is not one that can be decoded here"),
    "nothing_decodes": ("没有一帧能够解码", "not one frame could be decoded"),
    "playlist": (
        "内容是播放列表，不会打开其引用的文件",
        "the content is a playlist; what it points at is never opened",
    ),
    "archive": ("内容是压缩包，不会展开", "the content is an archive; it is not unpacked"),
    "decoder_crashed": ("解码进程崩溃，文件可能已损坏", "the decoder crashed on this file"),
    "decoder_hung": ("解码进程长时间无进展，已终止", "the decoder made no progress and was stopped"),
    "decoder_over_memory": ("解码超出内存上限，已终止", "decoding went over its memory limit"),
    "decoder_over_time": ("解码超出时间上限，已终止", "decoding went over its time limit"),
    "output_too_large": ("输出超出大小上限，已终止", "the output went over its size limit"),
    "ffmpeg_failed": ("FFmpeg 处理失败", "FFmpeg could not process this file"),
    "fragments_unreadable": ("分段 MP4 结构无法读取", "the fragmented MP4 cannot be read"),
    "rendition_differs": (
        "播放版本与原件的帧数或时长不一致",
        "the rendition differs from its source in frames or duration",
    ),
    "chunks_do_not_join": (
        "分段转码的各段不能拼接",
        "the chunks of a long recording do not join",
    ),
    "truncated": ("文件不完整，末尾缺失", "the file is cut off before its end"),
    "corrupt": ("部分内容损坏，播放时可能有花屏或缺帧", "parts are damaged; expect broken pictures or gaps"),
    "timestamps_jump": ("时间戳不连续", "its time stamps jump"),
    "header_lies": ("容器声明的画面尺寸与实际不符", "the declared picture size is not the real one"),
    "name_disagrees": ("扩展名与内容不符", "the name promises footage, the content is something else"),
    "more_sound": ("含多路声音，播放版本只取第一路", "more than one sound track; renditions carry the first"),
    "media_unreadable": ("媒体内容无法读取", "the footage cannot be read"),
}


def reason(code: str) -> dict[str, str]:
    """The one clear line for a code: ``code``, ``zh``, ``en``, and both as ``message``."""
    zh, en = REASONS.get(code, REASONS["media_unreadable"])
    return {"code": code, "zh": zh, "en": en, "message": f"{zh} / {en}"}


def media_error(code: str, detail: str = "", **facts: object) -> MediaError:
    """A `MediaError` whose message is the code's line in English, then what was found."""
    line = reason(code)["en"]
    return MediaError(f"{line}: {detail}" if detail else line, code=code, **facts)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation was refused."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


@contextmanager
def translated(code: str = "media_unreadable") -> Iterator[None]:
    """Turn the errors of FFmpeg's libraries into `MediaError` where they enter.

    Args:
        code: What to call an error that is not about memory.
    """
    # Only a child has FFmpeg's libraries in its memory; everybody imports the words above.
    import av.error

    try:
        yield
    except av.error.FFmpegError as error:
        found = "decoder_over_memory" if is_out_of_memory(error) else code
        raise media_error(found, str(error.strerror or error)) from error
