# Script: write OUTPUT from stator_version.h.in, only where its text changes.
# Variables: SOURCE_DIR OUTPUT VERSION COMMIT BUILD_TYPE

if(NOT COMMIT)
  execute_process(
    COMMAND git -C "${SOURCE_DIR}" rev-parse --short=12 HEAD
    OUTPUT_VARIABLE COMMIT
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
    RESULT_VARIABLE _result)
  if(NOT _result STREQUAL "0")
    set(COMMIT "unknown")
  endif()
endif()
string(REPLACE "." ";" _parts "${VERSION}")
list(GET _parts 0 VERSION_MAJOR)
list(GET _parts 1 VERSION_MINOR)
list(GET _parts 2 VERSION_PATCH)
configure_file("${CMAKE_CURRENT_LIST_DIR}/stator_version.h.in" "${OUTPUT}" @ONLY)
