"""The fixed phrases of the manifest audits; docs/corpora.md says what each one means and what to do about it."""

# the corpus as files
LABEL_WITHOUT_AUDIO = "label without audio"
AUDIO_WITHOUT_LABEL = "audio without label"
SECOND_FILE = "second file for one sentence"
MISPLACED = "not inside a speaker folder"
NESTED_FOLDER = "folder inside a speaker folder"
UNREADABLE_FOLDER = "folder cannot be read"
FOREIGN_FILE = "not a file of the corpus"
BAD_FILE_NAME = "file name is not UTF-8"

# labels
UNREADABLE_LABEL = "label cannot be read"
NOT_JSON = "label is not JSON"
NOT_AN_OBJECT = "label is not a JSON object"
MISSING_KEY = "missing key"
NOT_TEXT = "value is not text"
BYTE_ORDER_MARK = "byte-order mark"
STRAY_CHARACTERS = "stray characters around or within text"
EMPTY_TEXT = "empty text"
EMPTY_PHONETIC = "empty phonetic text"
LONE_SURROGATE = "text holds half a surrogate pair"
NAME_DISAGREES = "number disagrees with the file name"
SPEAKER_DISAGREES = "speaker disagrees with the folder"
UNKNOWN_GENDER = "unknown gender"
FAILED_SPELLING = "failed the spelling check"

# audio
AUDIO_NOT_FOUND = "audio not found"
UNREADABLE = "audio cannot be read"
EMPTY_FILE = "empty audio file"
NOT_AUDIO = "not audio"
TRUNCATED = "truncated audio"
ZERO_LENGTH = "zero-length audio"
SHORT_AUDIO = "shorter than was asked for"
DURATION_DISAGREES = "duration disagrees"
BAD_NUMBER = "not a number"
OTHER_RATE = "other sampling rate"
SEVERAL_CHANNELS = "several channels"
OTHER_CODING = "not 16-bit wav"

# identities
DUPLICATE_ID = "duplicate id"
BAD_ID = "white space in id"
SPEAKER_IN_TWO_PARTS = "speaker also in another part"

# tables and Common Voice
BAD_ROW = "row cannot be read"
UNKNOWN_PART = "unknown part"
END_BEFORE_START = "end is not after start"
END_BEYOND_AUDIO = "end beyond the audio"
HELD_OUT_SPEAKER = "speaker is held out"
HELD_OUT_SENTENCE = "sentence is held out"
NO_ROMANISATION = "no romanisation in parentheses"
NOT_ROMANISATION = "parentheses without romanisation"
NESTED_PARENTHESES = "nested parentheses"
UNBALANCED_PARENTHESES = "unbalanced parentheses"

# isolated words
NOT_RPA = "not spelled in RPA"
LABEL_DISAGREES = "label disagrees with the name"
BAD_METADATA = "metadata cannot be read"
