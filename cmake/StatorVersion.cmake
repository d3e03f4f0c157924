# generated/stator_version.h: written at configure time and looked at again in every build, so that
# the commit is that of the build. It changes (and recompiles its readers) only with the commit.

set(ST_COMMIT "" CACHE STRING "Commit to report; empty: ask git")
if(ST_SANITIZE)
  set(_st_build_type "${ST_SANITIZE}")
elseif(ST_COVERAGE)
  set(_st_build_type "coverage")
elseif(ST_FUZZ)
  set(_st_build_type "fuzz")
else()
  string(TOLOWER "${CMAKE_BUILD_TYPE}" _st_build_type)
endif()

set(_st_version_command
    "${CMAKE_COMMAND}"
    "-DSOURCE_DIR=${PROJECT_SOURCE_DIR}"
    "-DOUTPUT=${PROJECT_BINARY_DIR}/generated/stator_version.h"
    "-DVERSION=${PROJECT_VERSION}"
    "-DCOMMIT=${ST_COMMIT}"
    "-DBUILD_TYPE=${_st_build_type}"
    -P
    "${PROJECT_SOURCE_DIR}/cmake/WriteVersion.cmake")
execute_process(COMMAND ${_st_version_command} COMMAND_ERROR_IS_FATAL ANY)
add_custom_target(
  st_version
  COMMAND ${_st_version_command}
  BYPRODUCTS "${PROJECT_BINARY_DIR}/generated/stator_version.h"
  COMMENT "Checking stator_version.h"
  VERBATIM)
